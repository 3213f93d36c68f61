"""Files decoded so far: what a preparation that was killed does not do again.

A shard holds a few recordings, decoded. Its name is the checksum of all that decides its content,
so that a shard of other settings, or of files that have changed since, is never taken for it.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from studylib.corpora.acoustics import PRESETS, apply_session, draw_session
from studylib.corpora.audio import check_in_place, decode
from studylib.corpora.recordings import Recording
from studylib.errors import StudyError

PER_SHARD = 64
FORMAT = "2"  # counts up whenever the same recordings give other samples


@dataclass(frozen=True, slots=True)
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

    def utterances(self, name: str, path: Path) -> list[np.ndarray]:
        """The utterances of one file, each (S,) int16; StudyError if it cannot be used."""
        if self.in_place:
            check_in_place(path)
        samples = decode(path, self.minimum_seconds * self.pieces)
        length = len(samples) // self.pieces
        cut = [samples[at * length :][:length] for at in range(self.pieces)]
        if self.session_effects is None:
            return cut if self.pieces > 1 else [samples]
        return [
            self._effects(f"{name}#{number}", piece) for number, piece in enumerate(cut, start=1)
        ]

    def _effects(self, name: str, piece: np.ndarray) -> np.ndarray:
        word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
        rng = np.random.default_rng([self.seed, word])
        return apply_session(piece, draw_session(PRESETS[self.session_effects], rng), rng)


@dataclass(frozen=True)
class Shard:
    """A few recordings: their ids and paths, and the file that holds their samples."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]
    file: Path

    def read(self) -> tuple[list[list[int]], list[str], np.ndarray] | None:
        """Lengths of each recording's utterances, problems ("" for none), all samples."""
        try:
            with np.load(self.file, allow_pickle=False) as stored:
                return stored["lengths"].tolist(), stored["problems"].tolist(), stored["samples"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def decode(self, decoding: Decoding, keep_going: bool) -> tuple[list[list[int]], list[str]]:
        """Decode the recordings, unless that is done; returns lengths and problems."""
        done = self.read()
        # Problems are looked at again: the reason may have been mended.
        if done is not None and not any(done[1]):
            return done[:2]
        lengths, problems, samples = [], [], [np.empty(0, dtype=np.int16)]
        for name, path in zip(self.ids, self.paths, strict=True):
            utterances, problem = [], ""
            try:
                utterances = decoding.utterances(name, path)
            except StudyError as error:
                if not keep_going:
                    raise
                problem = str(error)
            problems.append(problem)
            lengths.append([len(piece) for piece in utterances] or [0] * decoding.pieces)
            if not decoding.in_place:
                samples.extend(utterances)
        partial_file = self.file.with_suffix(f".partial-{os.getpid()}")
        with open(partial_file, "wb") as file:
            np.savez(file, lengths=lengths, problems=problems, samples=np.concatenate(samples))
        partial_file.replace(self.file)
        return lengths, problems


def plan_shards(recordings: Sequence[Recording], decoding: Decoding, folder: Path) -> list[Shard]:
    """Divide recordings among shards, in their order."""
    how = [getattr(decoding, name) for name in decoding.__slots__]
    shards = []
    for first in range(0, len(recordings), PER_SHARD):
        part = recordings[first : first + PER_SHARD]
        files = [(row.id, str(row.path), row.size, row.changed) for row in part]
        key = hashlib.sha256(json.dumps([FORMAT, how, files]).encode()).hexdigest()[:32]
        ids, paths = tuple(row.id for row in part), tuple(row.path for row in part)
        shards.append(Shard(ids, paths, folder / f"{key}.npz"))
    return shards


def decode_shards(
    shards: Iterable[Shard], decoding: Decoding, *, workers: int, keep_going: bool
) -> Iterator[tuple[list[list[int]], list[str]]]:
    """Decode the shards, several at a time; yields lengths and problems in their order.

    Threads, not processes: decoders and ffmpeg run outside Python's lock, and a killed program
    leaves no helpers behind.
    """
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(lambda shard: shard.decode(decoding, keep_going), shards)
        finally:
            pool.shutdown(cancel_futures=True)
