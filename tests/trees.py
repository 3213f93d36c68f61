"""Miniature corpora for the tests: recordings of a few tones, in the folders of the real ones."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile


def voice(name: str, seconds: float = 0.8, rate: int = 16_000) -> np.ndarray:
    """Samples (S,) int16 that no other name has: a few tones and some noise."""
    rng = np.random.default_rng(list(name.encode()))
    time = np.arange(round(seconds * rate)) / rate
    tones = np.sin(2 * np.pi * np.outer(rng.uniform(100, 3000, 4), time)).sum(axis=0)
    return np.rint(2000 * tones + 200 * rng.standard_normal(len(time))).astype(np.int16)


def write(path: Path, samples: np.ndarray, rate: int = 16_000, **options: str) -> Path:
    """Write one recording, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def write_m4a(path: Path, samples: np.ndarray, rate: int = 16_000, **options: str) -> Path:
    """Write one recording as AAC, as the distributors of VoxCeleb2 do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return path


def write_tree(root: Path, names: list[str], seconds: float = 0.8) -> Path:
    """Write a recording for each name, a path below the root."""
    for name in names:
        write(root / name, voice(name, seconds))
    return root


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything below a folder: place -> content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


SPEAKERS = ("anna", "bert", "carl", "dora")
PLAIN = [
    f"{speaker}/{day}/{number}.wav"
    for speaker in SPEAKERS
    for day in ("monday", "tuesday")
    for number in (1, 2)
]
