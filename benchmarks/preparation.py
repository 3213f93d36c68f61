"""Real corpora: how fast crops are read from each kind of storage, and how fast files are listed.

    OMP_NUM_THREADS=1 python -m benchmarks.preparation [RECORDINGS]

prints its tables and writes them to preparation.md beside this file. RECORDINGS is a folder of
speakers, each with some recordings (speech compresses, and so decodes, as no made-up sound does);
without it noise is used. The ways of reading are timed in turn, several rounds, in one process on
one core; each way must give the same samples. A busy machine makes everything slower: processor
seconds stand beside seconds on the clock.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from benchmarks.measuring import markdown, processor
from studylib.corpora.audio import decode
from studylib.corpora.folder import tree_recordings
from studylib.corpora.report import Report
from studylib.corpora.sources import prepare_corpus
from studylib.corpora.store import SAMPLE_RATE, Corpus

CROP = 2 * SAMPLE_RATE
CROPS, ROUNDS = 400, 7
NOISE_RECORDINGS, NOISE_SECONDS = 200, 10
SPEAKERS, SESSIONS, FILES = 1_000, 10, 10  # 100,000 files
SHORT = SAMPLE_RATE // 2


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and processor seconds of this process."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def long_recordings(scratch: Path, recordings: Path | None) -> dict[str, Path]:
    """The same samples as wav and as flac: kind -> folder of speakers."""
    if recordings is not None:
        sources = {row.id: decode(row.path) for row in tree_recordings(recordings, Report())}
    else:
        rng = np.random.default_rng(0)
        sources = {
            f"speaker{number:03}/1.wav": rng.normal(0, 1000, NOISE_SECONDS * SAMPLE_RATE)
            .round()
            .astype(np.int16)
            for number in range(NOISE_RECORDINGS)
        }
    for kind in ("wav", "flac"):
        for name, samples in sources.items():
            path = (scratch / kind / name).with_suffix(f".{kind}")
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, SAMPLE_RATE)
    return {kind: scratch / kind for kind in ("wav", "flac")}


def whole_files(corpus: Corpus, root: Path, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """What a reader without a store does: read each file whole, and cut."""
    crops = np.empty((len(rows), CROP), dtype=np.int16)
    for crop, row, start in zip(crops, rows, starts, strict=True):
        samples, _ = soundfile.read(root / corpus.utterances["id"][row], dtype="int16")
        crop[:] = samples[start : start + CROP]
    return crops


def crops_table(scratch: Path, recordings: Path | None) -> list[str]:
    roots = long_recordings(scratch, recordings)
    stores = {"packed": ("wav", "packed"), "wav": ("wav", "in_place"), "flac": ("flac", "in_place")}
    corpora = {
        name: prepare_corpus(
            "folder", {"root": roots[kind], "storage": storage}, scratch / f"{name}_corpus"
        )
        for name, (kind, storage) in stores.items()
    }
    rng = np.random.default_rng(1)
    lengths = corpora["packed"].utterances["length"].to_numpy()
    rows = rng.choice(np.flatnonzero(lengths > CROP), CROPS)
    starts = rng.integers(0, lengths[rows] - CROP)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "packed": lambda: corpora["packed"].crops(rows, starts, CROP),
        "wav in place": lambda: corpora["wav"].crops(rows, starts, CROP),
        "flac in place": lambda: corpora["flac"].crops(rows, starts, CROP),
        "whole wav files": lambda: whole_files(corpora["wav"], roots["wav"], rows, starts),
        "whole flac files": lambda: whole_files(corpora["flac"], roots["flac"], rows, starts),
    }
    expected = ways["packed"]()
    for name, way in ways.items():
        if not np.array_equal(way(), expected):
            raise AssertionError(f"{name} gives other samples")
    times = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            times[name].append(timed(way))
    what = "recordings of speech" if recordings else "recordings of noise"
    lines = [
        f"Random 2-s crops from {len(lengths)} {what}, {lengths.mean() / SAMPLE_RATE:.1f} s on "
        f"average, files in the page cache; median of {ROUNDS} rounds of {CROPS} crops.",
        "",
    ]
    table = [("storage", "crops a second", "crops a processor second")]
    for name, rounds in times.items():
        clock, processor = (statistics.median(times) for times in zip(*rounds, strict=True))
        table.append((name, f"{CROPS / clock:,.0f}", f"{CROPS / processor:,.0f}"))
    return [*lines, markdown(table)]


def write_many(root: Path) -> None:
    """100,000 wav files of half a second."""
    noise = np.random.default_rng(0).normal(0, 1000, SHORT).round().astype(np.int16)
    root.mkdir()
    soundfile.write(root / "one.wav", noise, SAMPLE_RATE)
    content = (root / "one.wav").read_bytes()
    (root / "one.wav").unlink()
    for speaker in range(SPEAKERS):
        for session in range(SESSIONS):
            place = root / f"speaker{speaker:04}" / f"session{session}"
            place.mkdir(parents=True)
            for number in range(FILES):
                (place / f"{number}.wav").write_bytes(content)


def listing_table(scratch: Path) -> list[str]:
    root = scratch / "many"
    write_many(root)
    jobs = {
        "list the tree": lambda: list(tree_recordings(root, Report())),
        "prepare in place (every file decoded and checked)": lambda: prepare_corpus(
            "folder", {"root": root, "storage": "in_place"}, scratch / "in_place"
        ),
        "prepare packed": lambda: prepare_corpus("folder", {"root": root}, scratch / "many_packed"),
    }
    lines = [
        f"{SPEAKERS * SESSIONS * FILES:,} wav files of half a second.",
        "",
    ]
    table = [("what", "seconds on the clock", "processor seconds")]
    for name, job in jobs.items():
        clock, processor = timed(job)
        table.append((name, f"{clock:.1f}", f"{processor:.1f}"))
    return [*lines, markdown(table)]


def main() -> None:
    recordings = Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory() as scratch:
        tables = [crops_table(Path(scratch), recordings), listing_table(Path(scratch))]
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    head = f"{processor()}, {os.cpu_count()} cores{load}."
    text = "\n\n".join(["# Real corpora", head, *("\n".join(table) for table in tables)]) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
