"""Recordings -> utterances, by several threads; a preparation that was killed goes on from there.

What is decoded lies in a folder beside the corpus: all samples in audio.i16, and in log.jsonl a
line for each recording, in their order. A line of other settings, or of a file that has changed
since, and all lines after it, are dropped.
"""

import hashlib
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from studylib.corpora.acoustics import PRESETS, apply_session, draw_session
from studylib.corpora.audio import check_in_place, decode
from studylib.corpora.recordings import Recording, word_of
from studylib.corpora.report import Report
from studylib.corpora.store import SAMPLE_BYTES
from studylib.errors import StudyError

PART = 256  # recordings that are decoded before the log is written
FORMAT = "2"  # counts up whenever the same recordings give other samples


@dataclass(frozen=True)
class Decoding:
    """How a file becomes utterances.

    Attributes
    ----------
    pieces : int
        A file is cut into so many utterances of equal length.
    minimum_seconds : float
        Of each piece.
    session_effects : str or None
        Preset of `acoustics.PRESETS`; each piece gets a session of its own, drawn by its id.
    in_place : bool
        Check the file and keep its length only.
    seed : int
    """

    pieces: int
    minimum_seconds: float
    session_effects: str | None
    in_place: bool
    seed: int

    def key(self, recording: Recording) -> str:
        """Equal if the utterances are: checksum of these settings and of the file's state."""
        row = recording
        state = [FORMAT, astuple(self), row.id, str(row.path), row.size, row.changed]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]

    def result(self, recording: Recording) -> tuple[list[np.ndarray], str]:
        """The utterances of a recording, and the problem if it cannot be used, else ""."""
        try:
            return self.utterances(recording.id, recording.path), ""
        except StudyError as error:
            return [], str(error)

    def utterances(self, name: str, path: Path) -> list[np.ndarray]:
        """The utterances of one file, each (S,) int16; StudyError if it cannot be used."""
        if self.in_place:
            check_in_place(path)
        samples = decode(path, self.minimum_seconds * self.pieces)
        length = len(samples) // self.pieces
        cut = [samples[number * length :][:length] for number in range(self.pieces)]
        if self.session_effects is None:
            return cut if self.pieces > 1 else [samples]
        return [
            self._effects(f"{name}#{number}", piece) for number, piece in enumerate(cut, start=1)
        ]

    def _effects(self, name: str, piece: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([self.seed, word_of(name)])
        return apply_session(piece, draw_session(PRESETS[self.session_effects], rng), rng)


def decode_recordings(
    recordings: Sequence[Recording],
    decoding: Decoding,
    folder: Path,
    report: Report,
    *,
    workers: int,
    progress: bool,
) -> dict[str, list[int]]:
    """Decode all recordings into a folder: audio.i16, in their order.

    Threads, not processes: decoders run outside Python's lock, and a killed program leaves no
    helpers behind.

    Returns
    -------
    dict
        Id of each recording that can be used -> lengths of its utterances.
    """
    folder.mkdir(exist_ok=True)
    entries = _entries_so_far(recordings, decoding, folder)
    for row, (_, problem) in zip(recordings, entries, strict=False):
        if problem:
            report.problem(row.path, problem)
    pool = ThreadPoolExecutor(workers)
    try:
        with (
            _bar(len(recordings), len(entries), progress) as bar,
            open(folder / "audio.i16", "ab") as audio,
            open(folder / "log.jsonl", "a", encoding="utf-8") as log,
        ):
            for first in range(len(entries), len(recordings), PART):
                part = recordings[first : first + PART]
                results = pool.map(decoding.result, part)
                for row, (utterances, problem) in zip(part, results, strict=True):
                    if problem:
                        report.problem(row.path, problem)
                    lengths = [len(samples) for samples in utterances]
                    entries.append((lengths, problem))
                    if not decoding.in_place:
                        for samples in utterances:
                            audio.write(samples.astype("<i2", copy=False).data)
                    bar.update()
                audio.flush()
                os.fsync(audio.fileno())
                for row, entry in zip(part, entries[first:], strict=True):
                    log.write(json.dumps([decoding.key(row), *entry]) + "\n")
                log.flush()
    finally:
        pool.shutdown(cancel_futures=True)
    return {
        row.id: lengths
        for row, (lengths, problem) in zip(recordings, entries, strict=True)
        if not problem
    }


def _entries_so_far(
    recordings: Sequence[Recording], decoding: Decoding, folder: Path
) -> list[tuple[list[int], str]]:
    """Lengths and problem of each recording decoded by an earlier call, which stay as they are."""
    audio, log = folder / "audio.i16", folder / "log.jsonl"
    audio.touch()
    log.touch()
    entries, lines, position, size = [], [], 0, audio.stat().st_size
    for row, line in zip(recordings, log.read_text(encoding="utf-8").splitlines(), strict=False):
        try:
            key, lengths, problem = json.loads(line)
        except ValueError:  # written in part
            break
        end = position if decoding.in_place else position + SAMPLE_BYTES * sum(lengths)
        if key != decoding.key(row) or end > size:
            break
        position = end
        entries.append((lengths, problem))
        lines.append(f"{line}\n")
    os.truncate(audio, position)
    log.write_text("".join(lines), encoding="utf-8")
    return entries


def _bar(total: int, initial: int, progress: bool) -> tqdm:
    # Where there is no terminal, every update is a line of its own.
    every = 0.5 if sys.stderr.isatty() else 15.0
    return tqdm(
        total=total, initial=initial, unit="files", desc="Decoding", mininterval=every,
        disable=not progress,
    )  # fmt: skip
