"""The list of a source's recordings, before any is decoded: checked, split, thinned out."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd

from studylib.corpora.audio import require_ffmpeg
from studylib.corpora.report import Report
from studylib.corpora.splits import Splits
from studylib.errors import StudyError


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of a source: what is known of it before it is decoded.

    `split` is None for a source that leaves it to the settings. `size` (bytes) and `changed`
    (ns) are filled in when the list is checked.
    """

    id: str
    speaker: str
    session: str
    split: str | None
    path: Path
    facts: Mapping[str, str | float] = field(default_factory=dict)
    size: int = 0
    changed: int = 0

    def pieces(self, n: int, own_sessions: bool) -> list[tuple[str, str]]:
        """Id and session of each of the n utterances that the recording is cut into."""
        if n == 1:
            return [(self.id, self.id if own_sessions else self.session)]
        names = [f"{self.id}#{number}" for number in range(1, n + 1)]
        return [(name, name if own_sessions else self.session) for name in names]


def selected(
    recordings: Iterable[Recording],
    splits: Splits | None,
    max_per_speaker: int | None,
    seed: int,
    report: Report,
) -> list[Recording]:
    """Those recordings that make the corpus, ordered by id.

    Parameters
    ----------
    recordings : iterable of Recording
    splits : Splits or None
        None: as the recordings have it, else `train`.
    max_per_speaker : int or None
        Which ones stay is drawn anew for each speaker.
    seed : int
    report : Report
        Told of missing files and of ids that occur twice.

    Raises
    ------
    StudyError
        If nothing is left, or (unless the report keeps going) for each thing it is told of.
    """
    kept = _once(sorted(recordings, key=lambda row: row.id), report)
    kept = [row for row in map(_stamped, kept) if _is_there(row, report)]
    if splits is not None:
        split_of = splits.assign((row.speaker for row in kept), report)
        kept = [
            replace(row, split=split_of[row.speaker]) for row in kept if row.speaker in split_of
        ]
    kept = [row if row.split else replace(row, split="train") for row in kept]
    if max_per_speaker is not None:
        kept = _thinned(kept, max_per_speaker, seed)
    if not kept:
        raise StudyError("No recordings are left to make a corpus of.")
    for path in {row.path.suffix: row.path for row in kept}.values():
        require_ffmpeg(path)
    return kept


def table_of(recordings: Iterable[Recording], pieces: int, own_sessions: bool) -> pd.DataFrame:
    """One row an utterance: id, speaker, session, split and facts, as trial lists need them."""
    return pd.DataFrame.from_records(
        [
            {"id": name, "speaker": row.speaker, "session": session, "split": row.split}
            | dict(row.facts)
            for row in recordings
            for name, session in row.pieces(pieces, own_sessions)
        ]
    )


def place(recording: Recording, root: Path) -> str:
    """Where a recording lies, seen from the root."""
    # Plain strings: pathlib's own way is ten times slower, and there may be a million files.
    path, prefix = str(recording.path), f"{root}{os.sep}"
    return path.removeprefix(prefix).replace(os.sep, "/") if path.startswith(prefix) else path


def fingerprint(recordings: Iterable[Recording], root: Path) -> dict[str, int | str]:
    """Number and SHA-256 of the list: names, labels, sizes, places below the root."""
    digest, count = hashlib.sha256(), 0
    for row in recordings:
        labels = (row.id, row.speaker, row.session, row.split, sorted(row.facts.items()))
        digest.update(f"{labels}\t{place(row, root)}\t{row.size}\n".encode())
        count += 1
    return {"count": count, "sha256": digest.hexdigest()}


def _once(recordings: list[Recording], report: Report) -> list[Recording]:
    kept = []
    for name, same in groupby(recordings, key=lambda row: row.id):
        first, *others = same
        kept.append(first)
        for other in others:
            report.problem(
                str(other.path),
                f"{other.path} has the id {name!r}, as {first.path} has; ids must be unique.",
            )
    return kept


def _stamped(recording: Recording) -> Recording:
    try:
        stat = recording.path.stat()
    except OSError:
        return recording
    return replace(recording, size=stat.st_size, changed=stat.st_mtime_ns)


def _is_there(recording: Recording, report: Report) -> bool:
    if not recording.changed:
        report.problem(str(recording.path), f"{recording.path} is missing.")
    return bool(recording.changed)


def _thinned(recordings: list[Recording], n: int, seed: int) -> list[Recording]:
    kept = []
    by_speaker = sorted(recordings, key=lambda row: row.speaker)
    for speaker, group in groupby(by_speaker, key=lambda row: row.speaker):
        own = list(group)
        word = int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:8], "little")
        order = np.random.default_rng([seed, word]).permutation(len(own))
        kept += [own[at] for at in order[:n]]
    return sorted(kept, key=lambda row: row.id)
