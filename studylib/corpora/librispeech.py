"""LibriSpeech (Panayotov et al. 2015): read English books, CC BY 4.0, OpenSLR 12.

A subset that is not there can be downloaded. Utterances keep their names (`1034-121119-0000`); a
session is a chapter.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from studylib.corpora.audio import audio_files
from studylib.corpora.recordings import Recording, subfolders
from studylib.corpora.report import Report
from studylib.corpora.settings import PreparationSettings
from studylib.errors import StudyError
from studylib.files.disk import exclusive
from studylib.files.download import download, unpack

# SHA-256 of <subset>.tar.gz, as torchaudio 2.11 lists them.
CHECKSUMS = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}

SUBSETS = {"train-clean-100": "train", "dev-clean": "dev", "test-clean": "test"}


class LibriSpeechSettings(PreparationSettings):
    """Which part of LibriSpeech, and where.

    Attributes
    ----------
    root : Path
        The folder that holds LibriSpeech/, or its subsets themselves.
    subsets : mapping
        Subset -> the split that its speakers belong to (`splits` overrides it).
    download : bool
        Fetch subsets that are missing; the archives stay beside LibriSpeech/.
    base_url : str
        Of the archives.
    """

    places: ClassVar[frozenset[str]] = PreparationSettings.places | {"root", "download", "base_url"}

    root: Path
    subsets: dict[str, Literal["train", "dev", "test"]] = Field(default=SUBSETS, min_length=1)
    download: bool = False
    base_url: str = "https://www.openslr.org/resources/12"

    @field_validator("subsets")
    @classmethod
    def _known(cls, subsets: dict[str, str]) -> dict[str, str]:
        if unknown := subsets.keys() - CHECKSUMS:
            known = ", ".join(CHECKSUMS)
            raise ValueError(f"LibriSpeech has no subset {min(unknown)!r} (known: {known})")
        return subsets

    def recordings(self, report: Report, progress: bool) -> tuple[Path, Iterable[Recording]]:
        root = Path(os.path.abspath(self.root))
        folders = {
            _subset_folder(root, subset, self, progress): split
            for subset, split in self.subsets.items()
        }
        return root, librispeech_recordings(folders, report)

    def facts(self) -> dict[str, str]:
        return {
            "source": "librispeech",
            "version": "OpenSLR 12",
            "licence": "CC BY 4.0 (LibriSpeech, Panayotov et al. 2015, from LibriVox readings)",
            "population": "librispeech",
        }


def librispeech_recordings(folders: Mapping[Path, str], report: Report) -> Iterator[Recording]:
    """The recordings of subsets: folder of a subset -> its split.

    Raises
    ------
    StudyError
        If a subset has no speakers; for a file whose name does not fit its folders or a fault in
        SPEAKERS.TXT, unless the report keeps going.
    """
    for folder, split in folders.items():
        sexes = read_speakers(folder.parent / "SPEAKERS.TXT", report)
        speakers = subfolders(folder)
        if not speakers:
            raise StudyError(f"{folder} has no folders of speakers.")
        for speaker in speakers:
            facts = {"sex": sexes[speaker]} if speaker in sexes else {}
            for path in audio_files(folder / speaker):
                path = Path(path)
                session = f"{speaker}-{path.parent.name}"
                if not re.fullmatch(rf"{re.escape(session)}-\d+", path.stem):
                    report.problem(str(path), f"{path} should be named {session}-<number>.flac.")
                    continue
                yield Recording(path.stem, speaker, session, split, path, facts)


def read_speakers(path: Path, report: Report) -> dict[str, str]:
    """Speaker -> sex (f or m), from SPEAKERS.TXT: `ID | SEX | SUBSET | MINUTES | NAME`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        report.problem(path, f"{path}, the table of the speakers' sex, cannot be read: {error}.")
        return {}
    sexes = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", 4)]  # a name may hold a bar
        if len(fields) == 5 and fields[1] in ("F", "M"):
            sexes[fields[0]] = fields[1].lower()
        else:
            where, expected = f"{path}, line {number}", "ID | F or M | SUBSET | MINUTES | NAME"
            report.problem(where, f"{where}: expected {expected!r}, found {line!r}.")
    return sexes


def _subset_folder(root: Path, subset: str, settings: LibriSpeechSettings, progress: bool) -> Path:
    for folder in (root / "LibriSpeech" / subset, root / subset):
        if folder.is_dir():
            return folder
    if not settings.download:
        raise StudyError(
            f"{root} has no LibriSpeech/{subset}: set download: true, or name the folder that "
            "holds LibriSpeech/ as root."
        )
    name = f"{subset}.tar.gz"
    url = f"{settings.base_url.rstrip('/')}/{name}"
    archive = download(url, root / name, sha256=CHECKSUMS[subset], progress=progress)
    target, unpacked = root / "LibriSpeech" / subset, root / f"{subset}.unpacked"
    with exclusive(root / f"{subset}.unpack.lock"):
        if not target.is_dir():
            shutil.rmtree(unpacked, ignore_errors=True)
            unpack(archive, unpacked)
            target.parent.mkdir(exist_ok=True)
            for path in (unpacked / "LibriSpeech").glob("*.TXT"):
                path.replace(target.parent / path.name)
            # Last: a subset that has its name is whole.
            (unpacked / "LibriSpeech" / subset).rename(target)
            shutil.rmtree(unpacked)
    return target
