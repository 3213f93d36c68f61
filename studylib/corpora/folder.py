"""Any folder of recordings: a tree speaker/[session/]utterance, or a manifest that lists files.

    data/voices/anna/monday/01.wav     speaker anna, session anna/monday, id anna/monday/01.wav
    data/voices/bert/01.flac           speaker bert, session bert

A manifest is a table (commas, semicolons or tabs) with the columns path and speaker, and if wanted
id, session, split; all other columns are kept as facts (`sex` as f or m). Paths count from `root`,
or from the manifest's own folder.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import model_validator

from studylib.corpora.audio import SUFFIXES, is_audio
from studylib.corpora.preparation import prepare_recordings
from studylib.corpora.recordings import Recording
from studylib.corpora.report import Report
from studylib.corpora.settings import PreparationSettings, validated
from studylib.corpora.store import SPLITS, Corpus
from studylib.corpora.tables import read_rows
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
        Who the speakers are: two corpora of one name share their speakers.
    licence : str
        Kept with the corpus.
    """

    places: ClassVar[frozenset[str]] = PreparationSettings.places | {"root", "manifest"}

    root: Path | None = None
    manifest: Path | None = None
    name: str | None = None
    licence: str = "unknown: the recordings are the user's own"

    @model_validator(mode="after")
    def _somewhere(self) -> "FolderSettings":
        if self.root is None and self.manifest is None:
            raise ValueError("root (a folder of speakers) or manifest (a table of files) is needed")
        return self


def prepare(
    settings: FolderSettings | Mapping[str, Any],
    folder: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
    keep_going: bool = False,
    overwrite: bool = False,
) -> Corpus:
    """Prepare a corpus from a folder of recordings; see `preparation.prepare_recordings`."""
    settings = validated(FolderSettings, settings, "folder")
    report = Report(keep_going or settings.keep_going)
    root = Path(os.path.abspath(settings.root or settings.manifest.parent))
    if settings.manifest is not None:
        recordings = manifest_recordings(settings.manifest, root, report)
    else:
        recordings = tree_recordings(root, report)
    return prepare_recordings(
        recordings,
        root,
        settings,
        folder,
        facts={
            "source": "folder",
            "version": "1",
            "licence": settings.licence,
            "population": f"folder {settings.name or root.name}",
        },
        report=report,
        workers=workers,
        progress=progress,
        overwrite=overwrite,
    )


def tree_recordings(root: Path, report: Report) -> Iterator[Recording]:
    """The recordings of a tree speaker/[session/]utterance, in no particular order.

    Raises
    ------
    StudyError
        If there is no such folder or no speaker in it; for a speaker without recordings, unless
        the report keeps going.
    """
    speakers = subfolders(root)
    if not speakers:
        raise StudyError(
            f"{root} has no folders of speakers; expected {root}/<speaker>/[<session>/]<utterance>"
            f" with the suffix {', '.join(SUFFIXES)}."
        )
    for speaker in speakers:
        found = False
        for path in audio_files(root / speaker):
            found = True
            place = path.removeprefix(f"{root}{os.sep}").replace(os.sep, "/")
            yield Recording(place, speaker, place.rpartition("/")[0], None, Path(path))
        if not found:
            where = f"{root / speaker}"
            report.problem(where, f"{where} has no recordings ({', '.join(SUFFIXES)}).")


def subfolders(root: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(root) as entries:
            return sorted(
                entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."
            )
    except OSError as error:
        raise StudyError(f"{root} cannot be read as a folder: {error.strerror}.") from None


def audio_files(folder: str | Path) -> Iterator[str]:
    """Paths of all audio files below a folder."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        for name in names:
            if is_audio(name):
                yield os.path.join(parent, name)


def manifest_recordings(manifest: Path, root: Path, report: Report) -> Iterator[Recording]:
    """The recordings that a manifest names, line by line.

    Raises
    ------
    StudyError
        As `tables.read_rows`; for a missing file, an unknown split or a sex that is not f or m,
        unless the report keeps going.
    """
    named = ("path", "speaker", "id", "session", "split")
    for line, row in read_rows(manifest, ("path", "speaker"), report):
        where = f"{manifest}, line {line}"
        place = row["path"].replace("\\", "/")
        split, path = row.get("split") or None, root / place
        if split not in (None, *SPLITS):
            report.problem(where, f"{where}: split {split!r} is not one of {', '.join(SPLITS)}.")
        elif row.get("sex", "f") not in ("f", "m", ""):
            report.problem(where, f"{where}: sex must be f or m, not {row['sex']!r}.")
        elif not path.is_file():
            report.problem(where, f"{where}: the file {path} is missing.")
        else:
            facts = {key: value for key, value in row.items() if key not in named}
            session = row.get("session") or place.rpartition("/")[0] or row["speaker"]
            name = row.get("id") or place
            yield Recording(name, row["speaker"], session, split, path, facts)
