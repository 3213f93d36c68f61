"""VoxCeleb 1 and 2 (Nagrani et al. 2017; Chung et al. 2018), from the users' own folders.

The audio is given on request, and never downloaded here; the trial lists and meta files are public.
Utterances are named as in the lists (`id10270/x6uYqmx31kE/00001.wav`, also where the file is m4a);
a session is a video.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from studylib.corpora.audio import audio_files
from studylib.corpora.recordings import PreparationSettings, Recording
from studylib.corpora.report import Report, read_rows, read_text
from studylib.corpora.trials import TrialList
from studylib.errors import StudyError
from studylib.files.download import download

# Name -> (file, trials, target trials); `cleaned` lists lack trials with wrong labels.
OFFICIAL_LISTS = {
    "vox1_o": ("veri_test.txt", 37_720, 18_860),
    "vox1_o_cleaned": ("veri_test2.txt", 37_611, 18_802),
    "vox1_e": ("list_test_all.txt", 581_480, 290_743),
    "vox1_e_cleaned": ("list_test_all2.txt", 579_818, 289_921),
    "vox1_h": ("list_test_hard.txt", 552_536, 276_270),
    "vox1_h_cleaned": ("list_test_hard2.txt", 550_894, 275_488),
}
ListName = Literal[tuple(OFFICIAL_LISTS)]
TrainingSet = Literal["voxceleb1_dev", "voxceleb2_dev"]
META_FILES = ("vox1_meta.csv", "vox2_meta.csv")
# Below a root: the set, if that is a folder's name, speaker, video and utterance.
PLACE = re.compile(r"(?:(dev|test)/)?(?:(?:wav|aac)/)?(id\d{5})/([^/]+)/([^/]+)\.\w+")
# VoxCeleb1 numbers its speakers by name: the 40 whose names start with E are the test set.
VOX1_TEST = range(10270, 10310)
# VoxCeleb1_X, the 41 speakers of the development set that paper A holds out: an inference of ours.
# The list itself could not be found; we take the speakers whose names start with U, V or W, which
# follows the rule that made the test set, and whose number agrees.
VOX1_X = range(11199, 11240)
# Target and nontarget trials drawn for each speaker of a development list (ours).
DEVELOPMENT_TRIALS = 400


class VoxCelebSettings(PreparationSettings):
    """Which parts of VoxCeleb, and where.

    Attributes
    ----------
    voxceleb1, voxceleb2 : Path or None
        A folder with dev/ and test/, each with wav/ or aac/ or the speakers themselves; or both
        sets merged in one such folder.
    train : tuple of str
        Sets to train on.
    development : str or None
        voxceleb1_x: the 41 speakers of VoxCeleb1's development set that paper A holds out, as far
        as we can infer them (names starting with U, V or W): no list confirms it.
    lists : tuple of str
        Official trial lists to test with.
    meta : Path
        The folder of the lists and of vox1_meta.csv and vox2_meta.csv, under their official names.
    download : bool
        Fetch lists and meta files that are missing (never audio).
    base_url : str
        Of the lists and meta files.
    """

    voxceleb1: Path | None = None
    voxceleb2: Path | None = None
    train: tuple[TrainingSet, ...] = ("voxceleb2_dev",)
    development: Literal["voxceleb1_x"] | None = None
    lists: tuple[ListName, ...] = ("vox1_o",)
    meta: Path
    download: bool = False
    base_url: str = "https://mm.kaist.ac.kr/datasets/voxceleb/meta"

    @model_validator(mode="after")
    def _consistent(self) -> "VoxCelebSettings":
        if self.splits is not None:
            raise ValueError("VoxCeleb has splits of its own: use train, development and lists")
        needs_1 = self.lists or self.development or "voxceleb1_dev" in self.train
        if needs_1 and self.voxceleb1 is None:
            raise ValueError("voxceleb1, the folder of VoxCeleb1, is needed")
        if "voxceleb2_dev" in self.train and self.voxceleb2 is None:
            raise ValueError("voxceleb2, the folder of VoxCeleb2, is needed to train on it")
        if self.tests_vox1_dev and ("voxceleb1_dev" in self.train or self.development):
            raise ValueError(
                "vox1_e and vox1_h test the speakers of VoxCeleb1's dev: train on VoxCeleb2 alone"
            )
        return self

    @property
    def tests_vox1_dev(self) -> bool:
        return any(name.startswith(("vox1_e", "vox1_h")) for name in self.lists)

    def trial_lists(self, recordings: Iterable[Recording]) -> dict[str, TrialList]:
        """The official lists; for the development set, the setting `trials` or a drawn list."""
        lists = {
            name: TrialList(file=self.meta / OFFICIAL_LISTS[name][0], repeats=True)
            for name in self.lists
        }
        if self.trials is None and self.development:
            lists["dev"] = TrialList(recipe="per_speaker", split="dev", n=DEVELOPMENT_TRIALS)
        return lists | (self.trials or {})

    def split_of(self, part: str, number: int) -> str | None:
        """The split of a speaker (by set and number); None leaves the speaker out."""
        if part == "voxceleb1_test" or (part == "voxceleb1_dev" and self.tests_vox1_dev):
            return "test" if self.lists or self.trials else None
        if part == "voxceleb1_dev" and self.development and number in VOX1_X:
            return "dev"
        return "train" if part in self.train else None

    def recordings(self, report: Report) -> tuple[Path, Iterable[Recording]]:
        if self.download:
            fetch_lists(self)
        roots = [os.path.abspath(root) for root in (self.voxceleb1, self.voxceleb2) if root]
        return Path(os.path.commonpath(roots)), voxceleb_recordings(self, report)

    def facts(self) -> dict[str, str]:
        given = {"1": self.voxceleb1, "2": self.voxceleb2}
        return {
            "source": "voxceleb",
            "version": " and ".join(name for name, root in given.items() if root),
            "licence": "CC BY 4.0 (VoxCeleb); the recordings are given on request only",
            "population": "voxceleb",
        }


def voxceleb_recordings(settings: VoxCelebSettings, report: Report) -> Iterator[Recording]:
    """The recordings that the settings ask for, each with its split.

    Files in folders that are not named as speakers are ignored.
    """
    known = {}
    for name in META_FILES:
        known |= read_meta(settings.meta / name, report)
    for root in map(os.path.abspath, filter(None, (settings.voxceleb1, settings.voxceleb2))):
        places = (
            (path, PLACE.fullmatch(Path(path).as_posix(), len(root) + 1))
            for path in audio_files(root)
        )
        found = [(path, place.groups()) for path, place in places if place]
        if not found:
            raise StudyError(f"{root} has no folders of speakers (id10001, ...), as in dev/wav/")
        for path, (tree_set, speaker, video, name) in found:
            number = int(speaker[2:])
            own_set, facts = known.get(speaker, (tree_set, {}))
            if number > 10000:  # VoxCeleb1's numbers start at 10001
                part = "voxceleb1_test" if number in VOX1_TEST else "voxceleb1_dev"
            elif own_set:
                part = f"voxceleb2_{own_set}"
            else:
                raise StudyError(
                    f"{root} merges the sets; only vox2_meta.csv in {settings.meta} "
                    f"tells them apart, and it lacks {speaker}: set download: true."
                )
            if split := settings.split_of(part, number):
                utterance = f"{speaker}/{video}/{name}.wav"
                yield Recording(utterance, speaker, video, split, Path(path), facts)


def read_meta(path: Path, report: Report) -> dict[str, tuple[str, dict[str, str]]]:
    """Speaker -> set (dev, test) and facts: sex, nationality; empty if there is no such file.

    vox1_meta.csv is tab-separated; vox2_meta.csv has a byte-order mark, commas and padded fields.
    """
    speakers = {}
    for _, row in read_rows(path, ("Gender", "Set"), report) if path.is_file() else ():
        facts = {"sex": row["Gender"], "nationality": row.get("Nationality", "")}
        speakers[next(iter(row.values()))] = row["Set"], facts
    return speakers


def fetch_lists(settings: VoxCelebSettings) -> None:
    """Download the trial lists and meta files that are missing, and check the lists' counts."""
    for name in META_FILES:
        download(f"{settings.base_url}/{name}", settings.meta / name)
    for file, *expected in (OFFICIAL_LISTS[name] for name in settings.lists):
        path, url = settings.meta / file, f"{settings.base_url}/{file}"
        if path.is_file():
            continue
        labels = [line[:1] for line in read_text(download(url, path)).splitlines()]
        if [len(labels), labels.count("1")] != expected:
            path.unlink()
            counts = f"{expected[0]:,} trials, {expected[1]:,} of them targets"
            raise StudyError(f"{url} is not the official list: expected {counts}.")
