"""LibriSpeech (Panayotov et al. 2015): read English books, CC BY 4.0, OpenSLR 12.

A missing subset can be downloaded. Utterances keep their names (`1034-121119-0000`); a
session is a chapter.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from studylib.corpora.audio import audio_files
from studylib.corpora.recordings import PreparationSettings, Recording
from studylib.corpora.report import Report, read_text
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

Subset = Literal[tuple(CHECKSUMS)]
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

    root: Path
    subsets: dict[Subset, Literal["train", "dev", "test"]] = SUBSETS
    download: bool = False
    base_url: str = "https://www.openslr.org/resources/12"

    def recordings(self, report: Report) -> tuple[Path, Iterable[Recording]]:
        root = Path(os.path.abspath(self.root))
        splits = self.subsets.items()
        folders = {_subset_folder(root, subset, self): split for subset, split in splits}
        return root, librispeech_recordings(folders)

    def facts(self) -> dict[str, str]:
        return {
            "source": "librispeech",
            "version": "OpenSLR 12",
            "licence": "CC BY 4.0 (LibriSpeech, Panayotov et al. 2015, from LibriVox readings)",
            "population": "librispeech",
        }


def librispeech_recordings(folders: Mapping[Path, str]) -> Iterator[Recording]:
    """The recordings of subsets: folder of a subset -> its split."""
    for folder, split in folders.items():
        sexes = read_speakers(folder.parent / "SPEAKERS.TXT")
        for path in map(Path, audio_files(folder)):
            speaker, chapter = path.parts[-3:-1]
            facts = {"sex": sexes[speaker]} if speaker in sexes else {}
            yield Recording(path.stem, speaker, f"{speaker}-{chapter}", split, path, facts)


def read_speakers(path: Path) -> dict[str, str]:
    """Speaker -> sex (f or m), from SPEAKERS.TXT: `ID | SEX | SUBSET | MINUTES | NAME`.

    Empty if there is no such file.
    """
    lines = read_text(path).splitlines() if path.is_file() else ()
    rows = [[field.strip() for field in line.split("|")] for line in lines]
    return {row[0]: row[1].lower() for row in rows if row[1:2] in (["F"], ["M"])}


def _subset_folder(root: Path, subset: str, settings: LibriSpeechSettings) -> Path:
    target = root / "LibriSpeech" / subset
    for folder in (target, root / subset):
        if folder.is_dir():
            return folder
    if not settings.download:
        raise StudyError(f"{root} has no LibriSpeech/{subset}: set download: true or another root")
    name = f"{subset}.tar.gz"
    archive = download(f"{settings.base_url}/{name}", root / name, CHECKSUMS[subset])
    with exclusive(root / f"{subset}.unpack.lock"):
        if not target.is_dir():
            unpacked = root / f"{subset}.unpacked"
            unpack(archive, unpacked)
            target.parent.mkdir(exist_ok=True)
            for path in (unpacked / "LibriSpeech").glob("*.TXT"):
                path.replace(target.parent / path.name)
            # Renamed last: a subset under its own name is complete.
            (unpacked / "LibriSpeech" / subset).rename(target)
            shutil.rmtree(unpacked)
    return target
