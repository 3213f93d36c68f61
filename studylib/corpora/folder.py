"""Any folder of recordings: a tree speaker/[session/]utterance, or a manifest that lists files.

    data/voices/anna/monday/01.wav     speaker anna, session anna/monday, id anna/monday/01.wav
    data/voices/bert/01.flac           speaker bert, session bert

A manifest is a table (commas, semicolons or tabs) with the columns path and speaker, optionally
id, session, split; all other columns are kept (`sex` as f or m). Paths are relative to `root`, or
to the manifest's own folder.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import model_validator

from studylib.corpora.audio import SUFFIXES, audio_files
from studylib.corpora.recordings import Recording, subfolders
from studylib.corpora.report import Report, read_rows
from studylib.corpora.settings import PreparationSettings
from studylib.corpora.store import SPLITS
from studylib.errors import StudyError


class FolderSettings(PreparationSettings):
    """A folder of recordings.

    Attributes
    ----------
    root : Path
        The folder of speakers; optional with a manifest.
    manifest : Path or None
        A table that names the files.
    name : str
        Corpora of the same name have the same speakers.
    licence : str
        Kept with the corpus.
    """

    root: Path | None = None
    manifest: Path | None = None
    name: str | None = None
    licence: str = "unknown: the recordings are the user's own"

    @model_validator(mode="after")
    def _somewhere(self) -> "FolderSettings":
        if self.root is None and self.manifest is None:
            raise ValueError("root (a folder of speakers) or manifest (a table of files) is needed")
        return self

    def recordings(self, report: Report) -> tuple[Path, Iterable[Recording]]:
        root = Path(os.path.abspath(self.root or self.manifest.parent))
        if self.manifest is not None:
            return root, manifest_recordings(self.manifest, root, report)
        return root, tree_recordings(root, report)

    def facts(self) -> dict[str, str]:
        name = self.name or Path(os.path.abspath(self.root or self.manifest.parent)).name
        return {
            "source": "folder",
            "version": "1",
            "licence": self.licence,
            "population": f"folder {name}",
        }


def tree_recordings(root: Path, report: Report) -> Iterator[Recording]:
    """The recordings of a tree speaker/[session/]utterance, in no particular order.

    Raises
    ------
    StudyError
        If there is no such folder, or no folder in it, or a single one that holds folders (then
        those may be the speakers); for a speaker without recordings, unless the report keeps going.
    """
    speakers = subfolders(root)
    if not speakers:
        raise StudyError(
            f"{root} has no folders of speakers; expected {root}/<speaker>/[<session>/]<utterance>"
            f" with the suffix {', '.join(SUFFIXES)}."
        )
    deepest, inner = root, speakers
    while len(inner) == 1:
        deepest = deepest / inner[0]
        inner = subfolders(deepest)
    if inner and deepest != root:
        raise StudyError(
            f"{root} holds one folder, {speakers[0]}, which would be the only speaker; if the "
            f"{len(inner)} folders in {deepest} are the speakers, name that one."
        )
    for speaker in speakers:
        place = ""
        for path in audio_files(root / speaker):
            place = path.removeprefix(f"{root}{os.sep}").replace(os.sep, "/")
            yield Recording(place, speaker, place.rpartition("/")[0], None, Path(path))
        if not place:
            where = root / speaker
            report.problem(where, f"{where} has no recordings ({', '.join(SUFFIXES)}).")


def manifest_recordings(manifest: Path, root: Path, report: Report) -> Iterator[Recording]:
    """The recordings that a manifest names, line by line.

    Raises
    ------
    StudyError
        As `report.read_rows`; for a missing file, an unknown split or a sex that is not f or m,
        unless the report keeps going.
    """
    named = ("path", "speaker", "id", "session", "split")
    for where, row in read_rows(manifest, ("path", "speaker"), report):
        place = row["path"].replace("\\", "/")
        split = row.get("split") or None
        if split not in (None, *SPLITS):
            report.problem(where, f"{where}: split {split!r} is not one of {', '.join(SPLITS)}.")
        elif row.get("sex", "f") not in ("f", "m", ""):
            report.problem(where, f"{where}: sex must be f or m, not {row['sex']!r}.")
        elif not (root / place).is_file():
            report.problem(where, f"{where}: the file {root / place} is missing.")
        else:
            facts = {key: value for key, value in row.items() if key not in named}
            session = row.get("session") or place.rpartition("/")[0] or row["speaker"]
            name = row.get("id") or place
            yield Recording(name, row["speaker"], session, split, root / place, facts)
