"""Recordings -> utterances, by several threads; a killed preparation resumes.

Decoded recordings are kept in a folder beside the corpus: their samples in audio.i16, a line for
each recording in log.jsonl, in the same order. The first line of other settings, of a file changed
since, or of damaged samples is dropped with all lines after it.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from studylib.corpora.acoustics import PRESETS, apply_session, draw_session
from studylib.corpora.audio import check_in_place, decode
from studylib.corpora.recordings import Recording, word_of
from studylib.corpora.report import Report
from studylib.corpora.settings import PreparationSettings
from studylib.corpora.store import SAMPLE_BYTES
from studylib.errors import StudyError
from studylib.files.cores import usable_cores

PART = 256  # recordings that are decoded before the log is written
FORMAT = "3"  # raised whenever the same recordings give other samples


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
    keys, packed = _keys(recordings, settings), settings.storage == "packed"
    entries = _entries_so_far(keys, packed, folder)
    firsts: dict[str, Recording] = {}  # checksum of samples -> the recording that has them
    for row, (_, problem, checksum, _) in zip(recordings, entries, strict=False):
        if problem:
            report.problem(row.path, problem)
        _twin(firsts, row, checksum, report)
    # No bar where there is no terminal.
    bar = tqdm(total=len(keys), initial=len(entries), unit="files", desc="Decoding", disable=None)
    pool = ThreadPoolExecutor(usable_cores())
    try:
        with bar, open(folder / "audio.i16", "ab") as audio, open(folder / "log.jsonl", "a") as log:
            for first in range(len(entries), len(recordings), PART):
                part = recordings[first : first + PART]
                results = pool.map(partial(_result, settings), part)
                for row, (utterances, problem, checksum) in zip(part, results, strict=True):
                    if twin := _twin(firsts, row, checksum, report):
                        utterances, problem, checksum = [], twin, ""
                    if problem:
                        report.problem(row.path, problem)
                    content = b"".join(each.astype("<i2").tobytes() for each in utterances * packed)
                    audio.write(content)
                    lengths = [len(samples) for samples in utterances]
                    entries.append((lengths, problem, checksum, zlib.crc32(content)))
                    bar.update()
                audio.flush()
                os.fsync(audio.fileno())
                for key, entry in zip(keys[first:], entries[first:], strict=False):
                    log.write(json.dumps([key, *entry]) + "\n")
                log.flush()
    finally:
        pool.shutdown(cancel_futures=True)
    named = zip(recordings, entries, strict=True)
    return {row.id: lengths for row, (lengths, problem, *_) in named if not problem}


def _twin(firsts: dict[str, Recording], row: Recording, checksum: str, report: Report) -> str:
    """Tell of a recording that is there under two names; the problem if they are two speakers'."""
    first = firsts.setdefault(checksum or row.id, row)
    if first.speaker != row.speaker:
        return f"{row.path} is the same recording as {first.path}, of another speaker."
    if first is not row:
        report.note(f"{row.path} is the same recording as {first.path}; both are taken.")
    return ""


def _entries_so_far(
    keys: Sequence[str], packed: bool, folder: Path
) -> list[tuple[list[int], str, str, int]]:
    """What an earlier call decoded, which stays.

    Of each recording the lengths of its utterances, its problem, the checksum of its samples and
    that of the bytes stored.
    """
    log, audio = folder / "log.jsonl", folder / "audio.i16"
    log.touch()
    audio.touch()
    entries, lines, size = [], [], 0
    with open(audio, "rb") as samples:
        for wanted, line in zip(keys, log.read_text().splitlines(), strict=False):
            try:
                key, lengths, problem, checksum, stored = json.loads(line)
            except ValueError:  # a line that was not written completely
                break
            content = samples.read(SAMPLE_BYTES * sum(lengths) * packed)
            if key != wanted or zlib.crc32(content) != stored:
                break
            entries.append((lengths, problem, checksum, stored))
            lines.append(f"{line}\n")
            size += len(content)
    # The log first: it must never list samples that are missing.
    log.write_text("".join(lines))
    os.truncate(audio, size)
    return entries


def _keys(recordings: Sequence[Recording], settings: PreparationSettings) -> list[str]:
    """For each recording a checksum of the settings and of the file's state."""
    decisive = json.dumps([FORMAT, settings.decisive()])
    states = (f"{decisive}{(row.id, str(row.path), row.size, row.changed)}" for row in recordings)
    return [hashlib.sha256(state.encode()).hexdigest()[:32] for state in states]


def _result(settings: PreparationSettings, row: Recording) -> tuple[list[np.ndarray], str, str]:
    """Utterances of a recording, each (S,) int16; else the problem; checksum of its samples."""
    pieces = settings.pieces_per_utterance
    try:
        if settings.storage == "in_place":
            check_in_place(row.path)
        samples = decode(row.path, settings.minimum_seconds * pieces)
    except StudyError as error:
        return [], str(error), ""
    checksum = hashlib.sha256(samples.data).hexdigest()[:32]
    cut = np.split(samples[: len(samples) // pieces * pieces], pieces)
    if settings.session_effects is not None:
        preset = PRESETS[settings.session_effects]
        for number, piece in enumerate(cut, start=1):
            rng = np.random.default_rng([settings.seed, word_of(f"{row.id}#{number}")])
            cut[number - 1] = apply_session(piece, draw_session(preset, rng), rng)
    return cut, "", checksum
