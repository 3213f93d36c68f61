"""Any folder of recordings: a tree speaker/[session/]utterance, or a manifest that lists files.

    data/voices/anna/monday/01.wav     speaker anna, session anna/monday, id anna/monday/01.wav
    data/voices/bert/01.flac           speaker bert, session bert

A manifest is a table (commas, semicolons or tabs) with the columns path and speaker, optionally
id, session, split; all other columns are kept (`sex` as f or m). Paths are relative to `root`, or
to the manifest's own folder.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import model_validator

from studylib.corpora.audio import SUFFIXES, audio_files
from studylib.corpora.recordings import PreparationSettings, Recording, subfolders
from studylib.corpora.report import Report, read_rows
from studylib.corpora.store import SPLITS
from studylib.errors import StudyError

TREE = r"^(?P<speaker>[^/]+)(/[^/]+)?/[^/]+$"
OWN_COLUMNS = {"id", "split", "start", "length", "path"}


class FolderSettings(PreparationSettings):
    """A folder of recordings.

    Attributes
    ----------
    root : Path
        The folder of speakers; optional with a manifest.
    manifest : Path or None
        A table that names the files.
    speaker_pattern : str or None
        For trees without folders of speakers: a regular expression, found in each path below the
        root, whose group `speaker` names the speaker, such as `(?P<speaker>[0-9]+)_[^/]*$`. Other
        groups are columns: `session`, `take` (see `trials`), `sex`.
    name : str
        Corpora of the same name have the same speakers.
    licence : str
        Kept with the corpus.
    """

    root: Path | None = None
    manifest: Path | None = None
    speaker_pattern: str | None = None
    name: str | None = None
    licence: str = "unknown: the recordings are the user's own"

    @model_validator(mode="after")
    def _complete(self) -> "FolderSettings":
        if self.root is None and self.manifest is None:
            raise ValueError("root (a folder of speakers) or manifest (a table of files) is needed")
        try:
            groups = re.compile(self.speaker_pattern or TREE).groupindex
        except re.error as error:
            raise ValueError(f"speaker_pattern: no regular expression: {error}") from None
        if "speaker" not in groups or groups.keys() & OWN_COLUMNS:
            raise ValueError("speaker_pattern: expected a group (?P<speaker>...), no other column")
        return self

    @property
    def base(self) -> Path:
        """The folder that paths are relative to."""
        return Path(os.path.abspath(self.root or self.manifest.parent))

    def recordings(self, report: Report) -> tuple[Path, Iterable[Recording]]:
        if self.manifest is not None:
            return self.base, manifest_recordings(self.manifest, self.base, report)
        if self.speaker_pattern is not None:
            return self.base, named_recordings(self.base, self.speaker_pattern, report)
        return self.base, tree_recordings(self.base, report)

    def facts(self) -> dict[str, str]:
        return {
            "source": "folder",
            "version": "1",
            "licence": self.licence,
            "population": f"folder {self.name or self.base.name}",
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
            f" with the suffix {', '.join(SUFFIXES)}, or the setting speaker_pattern."
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
    silent = set(speakers)
    for row in named_recordings(root, TREE, report):
        silent.discard(row.speaker)
        yield row
    for speaker in sorted(silent):
        where = root / speaker
        report.problem(where, f"{where} has no recordings ({', '.join(SUFFIXES)}).")


def named_recordings(root: Path, pattern: str, report: Report) -> Iterator[Recording]:
    """The recordings of a tree whose paths name the speakers, by a regular expression.

    Raises
    ------
    StudyError
        For a path that the pattern does not match: always in a tree of speakers, else unless the
        report keeps going.
    """
    for path in audio_files(root, print):
        place = path.removeprefix(f"{root}{os.sep}").replace(os.sep, "/")
        found = re.search(pattern, place)
        if pattern == TREE and not found:
            raise StudyError(
                f"{path} is not of the form {root}/<speaker>/[<session>/]<utterance>; if the "
                f"folders in {root / place.split('/')[0]} are the speakers, name that one; else "
                "list the recordings in a manifest, or set speaker_pattern."
            )
        facts = {key: value or "" for key, value in found.groupdict().items()} if found else {}
        if speaker := facts.pop("speaker", ""):
            session = facts.pop("session", "") or place.rpartition("/")[0] or speaker
            yield Recording(place, speaker, session, None, Path(path), facts)
        else:
            report.problem(path, f"{path}: speaker_pattern finds no speaker in {place}.")


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
        if taken := row.keys() & {"start", "length"}:
            raise StudyError(f"{manifest}: the corpus makes the column {min(taken)!r}: rename it.")
        place = row["path"].replace("\\", "/")
        split = row.get("split") or None
        if split not in (None, *SPLITS):
            report.problem(where, f"{where}: split {split!r} is not one of {', '.join(SPLITS)}.")
        elif row.get("sex", "f") not in ("f", "m", ""):
            report.problem(where, f"{where}: sex must be f or m, not {row['sex']!r}.")
        elif not os.path.isfile(root / place):
            report.problem(where, f"{where}: the file {root / place} is missing.")
        else:
            facts = {key: value for key, value in row.items() if key not in named}
            session = row.get("session") or place.rpartition("/")[0] or row["speaker"]
            name = row.get("id") or place
            yield Recording(name, row["speaker"], session, split, root / place, facts)
