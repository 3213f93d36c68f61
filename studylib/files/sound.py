"""Sound files that libsndfile reads: whole, or refused. Needs numpy and soundfile alone."""

import os
import re
from pathlib import Path

import numpy as np
import soundfile

from studylib.errors import StudyError

RATES = (4_000, 768_000)  # Hz, lowest and highest
MOST_CLIPPED = 0.01  # share of samples beyond full scale, where decoders may overshoot
LONGEST_OGG_PAGE = 65_307  # bytes


def open_sound(path: Path) -> soundfile.SoundFile:
    try:
        return soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, TypeError) as error:  # the latter for a raw file
        reason = getattr(error, "error_string", error)
        reason = reason if path.is_file() else "there is no such file"
        raise StudyError(f"{path} cannot be read as audio: {reason}") from None


def read_sound(path: Path) -> tuple[np.ndarray, int]:
    """Waveform (S, channels) float32, and rate in Hz; StudyError if the file is not whole."""
    with open_sound(path) as file:
        try:
            waveform = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise StudyError(f"{path} is damaged: {error.error_string}") from None
        is_cut = len(waveform) < file.frames or _is_cut(file.extra_info)
        if is_cut or (file.format == "OGG" and _is_cut_ogg(path)):
            raise StudyError(f"{path} is truncated: it ends before it should.")
        return waveform, file.samplerate


def check_waveform(
    waveform: np.ndarray, rate: int, name: str | Path, minimum_seconds: float
) -> None:
    """Refuse what no recording has.

    Parameters
    ----------
    waveform : (S,) or (S, channels) float

    Raises
    ------
    StudyError
        A rate outside `RATES`, too few samples, or samples that are not numbers or lie beyond
        full scale.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise StudyError(f"{name} has {rate:,} Hz; expected {RATES[0]:,} to {RATES[1]:,} Hz.")
    if not np.isfinite(waveform).all():
        raise StudyError(f"{name} has samples that are not finite numbers (NaN or infinite).")
    seconds = len(waveform) / rate
    if seconds < minimum_seconds:
        raise StudyError(f"{name} lasts {seconds:.3f} s; expected {minimum_seconds:g} s or more.")
    if (beyond := np.mean(np.abs(waveform) > 1)) > MOST_CLIPPED:
        raise StudyError(f"{name} has {100 * beyond:.0f} % of its samples beyond -1 and 1.")


def _is_cut(log: str) -> bool:
    # libsndfile reads a wav file whose end is missing without complaint, but notes it in its log.
    # A program that writes wav to a pipe sets all bits of the length: the file is not damaged.
    found = re.search(r"^\s*data : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return bool(found) and int(found[2]) < int(found[1]) < 0x7FFFF000


def _is_cut_ogg(path: Path) -> bool:
    """Whether the last page of an Ogg file is incomplete, or not marked as the last."""
    with open(path, "rb") as file:
        file.seek(-min(LONGEST_OGG_PAGE, path.stat().st_size), os.SEEK_END)
        page = file.read().rpartition(b"OggS")[2]
    # After "OggS": version, flags (4: the last page), 20 more bytes, number of segments, lengths.
    head = page[:23] + page[23 : 23 + page[22]] if len(page) > 22 else page
    return len(page) < 23 or not page[1] & 4 or len(page) < len(head) + sum(head[23:])
