"""Recordings -> utterances, by several threads; a killed preparation resumes.

Decoded recordings are kept in a folder beside the corpus: their samples in audio.i16, a line for
each `PART` of them in log.jsonl, in the same order. The first part of other settings, with a file
changed since, or of damaged samples is dropped with all after it.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from studylib.corpora.acoustics import PRESETS, apply_session, draw_session
from studylib.corpora.audio import check_in_place, decode
from studylib.corpora.recordings import PreparationSettings, Recording, word_of
from studylib.corpora.report import Report
from studylib.errors import StudyError
from studylib.files.cores import usable_cores

PART = 256  # recordings that are decoded before the log is written
FORMAT = "4"  # raised whenever the same recordings give other samples, or another log


def decode_recordings(
    recordings: Sequence[Recording], settings: PreparationSettings, folder: Path, report: Report
) -> dict[str, list[int]]:
    """Decode all recordings into a folder: audio.i16, in their order.

    With `storage: in_place` each file is checked and only its length is kept. Threads, not
    processes: decoders release Python's lock, and a killed program leaves no child processes.

    Returns
    -------
    dict
        Id of each recording that can be used -> lengths of its utterances.
    """
    folder.mkdir(exist_ok=True)
    files = [folder / "audio.i16", folder / "log.jsonl"]
    for path in files:
        path.touch()
    decisive = [FORMAT, settings.decisive()]
    firsts: dict[str, Recording] = {}  # checksum of samples -> the recording that has them
    usable = {}
    # No bar where there is no terminal.
    bar = tqdm(total=len(recordings), unit="files", desc="Decoding", disable=None)
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with bar, files[0].open("r+b") as audio, files[1].open("r+b") as log:
            for first in range(0, len(recordings), PART):
                part = recordings[first : first + PART]
                states = [(row.id, str(row.path), row.size, row.changed) for row in part]
                key = hashlib.sha256(json.dumps([decisive, states]).encode()).hexdigest()
                earlier = _decoded_earlier(key, audio, log)
                results, entries, crc = earlier or pool.map(partial(_result, settings), part), [], 0
                for row, (lengths, problem, checksum, content) in zip(part, results, strict=True):
                    if twin := _twin(firsts, row, checksum):
                        lengths, problem, checksum, content = [], twin, "", b""
                    if problem:
                        report.problem(row.path, problem)
                    else:
                        usable[row.id] = lengths
                    entries.append((lengths, problem, checksum, len(content)))
                    audio.write(content)
                    crc = zlib.crc32(content, crc)
                    bar.update()
                if not earlier:
                    audio.flush()
                    os.fsync(audio.fileno())
                    log.write(json.dumps([key, entries, crc]).encode() + b"\n")
                    log.flush()
    finally:
        pool.shutdown(cancel_futures=True)
    return usable


def _twin(firsts: dict[str, Recording], row: Recording, checksum: str) -> str:
    """Tell of a recording that is there under two names; the problem if they are two speakers'."""
    first = firsts.setdefault(checksum or row.id, row)
    if first.speaker != row.speaker:
        return f"{row.path} is the same recording as {first.path}, of another speaker."
    if first is not row:
        print(f"{row.path} is the same recording as {first.path}; both are taken.")
    return ""


def _decoded_earlier(key: str, audio: BinaryIO, log: BinaryIO) -> list[tuple[Any, ...]] | None:
    """What an earlier call found in a part, as `_result`; None, and all that follows is dropped."""
    places = {log: log.tell(), audio: audio.tell()}
    with suppress(ValueError):  # a line that was not written completely
        found, entries, stored = json.loads(log.readline())
        crc = 0
        for *_, size in entries:
            crc = zlib.crc32(audio.read(size), crc)
        if (found, stored) == (key, crc):
            return [(lengths, problem, checksum, b"") for lengths, problem, checksum, _ in entries]
    for file, place in places.items():  # the log first: it must never list samples that are missing
        file.seek(place)
        file.truncate()
    return None


def _result(settings: PreparationSettings, row: Recording) -> tuple[list[int], str, str, bytes]:
    """Lengths of a recording's utterances, or its problem; a checksum; the samples to store."""
    pieces = settings.pieces_per_utterance
    try:
        if settings.storage == "in_place":
            check_in_place(row.path)
        samples = decode(row.path, settings.minimum_seconds * pieces)
    except StudyError as error:
        return [], str(error), "", b""
    checksum = hashlib.sha256(samples.data).hexdigest()[:32]
    cut = np.split(samples[: len(samples) // pieces * pieces], pieces)
    if settings.session_effects is not None:
        preset = PRESETS[settings.session_effects]
        for number, piece in enumerate(cut, start=1):
            rng = np.random.default_rng([settings.seed, word_of(f"{row.id}#{number}")])
            cut[number - 1] = apply_session(piece, draw_session(preset, rng), rng)
    stored = cut if settings.storage == "packed" else []
    content = b"".join(each.astype("<i2").tobytes() for each in stored)
    return [len(each) for each in cut], "", checksum, content
