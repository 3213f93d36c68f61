"""Crops from a corpus larger than memory, and opening a corpus of VoxCeleb2's size.

    OMP_NUM_THREADS=1 python -m benchmarks.reading [FOLDER] [GIGABYTES]

writes reading.md beside this file. A made-up corpus of so many gigabytes (6 by default) lies in
FOLDER (by default a temporary one). Cold: before each round the operating system drops the file
from its page cache. Each way of reading is timed in turn, several rounds, in one process; all give
the same samples. Then a table of 5,994 speakers and 1,092,009 utterances, whose audio is a sparse
file, is opened in a process of its own.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.measuring import in_own_process, markdown, processor
from studylib.corpora.store import SAMPLE_BYTES, SAMPLE_RATE, Corpus, open_corpus
from studylib.training.loading import read_batches, training_data
from studylib.training.sampling import BatchSampler
from studylib.training.settings import TrainSettings

CROP = 2 * SAMPLE_RATE
BATCH, ROUNDS = 256, 15
UTTERANCE = 8 * SAMPLE_RATE
SPEAKERS, UTTERANCES = 5_994, 1_092_009
CPU = torch.device("cpu")

Read = Callable[[np.ndarray, np.ndarray], np.ndarray]


def make_corpus(folder: Path, n_speakers: int, n_utterances: int, sparse: bool) -> Corpus:
    """A corpus of utterances of 8 s: noise, or with `sparse` a file that takes no room."""
    (folder / "trials").mkdir(parents=True)
    size = n_utterances * UTTERANCE * SAMPLE_BYTES
    with open(folder / "audio.i16", "wb") as audio:
        if not sparse:
            block = np.random.default_rng(0).bytes(2**24)
            for written in range(0, size, len(block)):
                audio.write(block[: size - written])
            os.fsync(audio.fileno())
        audio.truncate(size)
    numbers = np.arange(n_utterances)
    speakers = pd.Series(np.sort(numbers % n_speakers)).map("id{:05}".format)
    videos = speakers + "/" + pd.Series(numbers // 8).map("{:011}".format)
    table = pd.DataFrame(
        {
            "id": videos + "/" + pd.Series(numbers % 8).map("{:05}.wav".format),
            "speaker": speakers,
            "session": videos,
            "split": "train",
            "start": numbers * UTTERANCE,
            "length": UTTERANCE,
        }
    )
    table.to_parquet(folder / "utterances.parquet", index=False)
    sizes = {"audio.i16": size}
    description = {"counts": {"utterances": n_utterances}, "checksums": {}, "sizes": sizes}
    (folder / "corpus.json").write_text(json.dumps(description))
    return open_corpus(folder)


def memory_map(corpus: Corpus, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """What `Corpus.crops` gives, copied out of a memory map that is made anew."""
    audio = np.asarray(np.memmap(corpus.folder / "audio.i16", dtype="<i2", mode="r"))
    begins = rows * UTTERANCE + starts
    crops = np.empty((len(rows), CROP), dtype=np.int16)
    for crop, begin in zip(crops, begins.tolist(), strict=True):
        crop[:] = audio[begin : begin + CROP]
    return crops


def by_preadv(corpus: Corpus, n_threads: int, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The same by `os.preadv` in some threads, the operating system not told of them before."""
    places = (SAMPLE_BYTES * (rows * UTTERANCE + starts)).tolist()
    crops = np.empty((len(rows), CROP), dtype=np.int16)
    with (
        open(corpus.folder / "audio.i16", "rb", buffering=0) as audio,
        ThreadPoolExecutor(n_threads) as pool,
    ):

        def read(first: int) -> None:
            for number in range(first, len(rows), n_threads):
                os.preadv(audio.fileno(), [crops[number]], places[number])

        list(pool.map(read, range(n_threads)))
    return crops


def ours(corpus: Corpus, rows: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return corpus.crops(rows, starts, CROP)


def drop_from_cache(path: Path) -> None:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def crops_table(folder: Path, gigabytes: float) -> str:
    """Crops a second of each way, cold and warm: median of the rounds, lowest and highest."""
    corpus = make_corpus(folder, 100, int(gigabytes * 1e9 / UTTERANCE / SAMPLE_BYTES), sparse=False)
    ways: dict[str, Read] = {
        "memory map": partial(memory_map, corpus),
        "preadv, 1 thread": partial(by_preadv, corpus, 1),
        "preadv, 4 threads": partial(by_preadv, corpus, 4),
        "Corpus.crops": partial(ours, corpus),
    }
    rates = {(name, is_cold): [] for name in ways for is_cold in (True, False)}
    rng = np.random.default_rng(1)
    for _ in range(ROUNDS):
        rows = rng.integers(0, len(corpus.utterances), BATCH)
        starts = rng.integers(0, UTTERANCE - CROP, BATCH)
        results = []
        for is_cold in (True, False):
            for name, way in ways.items():
                if is_cold:
                    drop_from_cache(corpus.folder / "audio.i16")
                began = time.perf_counter()
                results.append(way(rows, starts))
                rates[name, is_cold].append(BATCH / (time.perf_counter() - began))
        assert all(np.array_equal(each, results[0]) for each in results)
    table = [("way", "cold: crops/s", "times the map", "warm: crops/s")]
    for name in ways:
        cold, warm = rates[name, True], rates[name, False]
        ratio = statistics.median(cold) / statistics.median(rates["memory map", True])
        table.append((name, _spread(cold), f"{ratio:.1f}", _spread(warm)))
    return markdown(table)


def _spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def open_large(connection, folder: Path) -> None:
    """Send seconds of each step until the first batch, and the peak memory in GB."""
    seconds = {}

    def timed(name: str, work: Callable[[], object]) -> object:
        began = time.perf_counter()
        result = work()
        seconds[name] = time.perf_counter() - began
        return result

    corpus = timed("open the corpus", lambda: open_corpus(folder))
    data = timed("number the training speakers", lambda: training_data(corpus))
    settings = TrainSettings(crops=10**6, speakers_per_batch=200, utterances_per_speaker=2)
    sampler = timed("make the sampler", lambda: BatchSampler(data.speakers, settings, 0))
    batches = read_batches(data, sampler, range(10**6), 2.0, slice(None), CPU)
    timed("draw an epoch and read its first batch of 400", lambda: next(batches))
    timed("the second batch", lambda: next(batches))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    connection.send((seconds, peak))


def large_table(folder: Path) -> str:
    make_corpus(folder, SPEAKERS, UTTERANCES, sparse=True)
    seconds, peak = in_own_process(open_large, folder, start="spawn")
    rows = [(name, f"{each:.2f} s") for name, each in seconds.items()]
    return markdown(
        [("step", "figure"), *rows, ("peak memory, libraries included", f"{peak:.2f} GB")]
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary) / "reading"
        gigabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 6.0
        load = f"load {os.getloadavg()[0]:.1f} at the start"
        text = "\n\n".join(
            [
                "# Reading, measured",
                f"{processor()}, {os.cpu_count()} cores ({load}).",
                f"## Random 2-s crops of a corpus of {gigabytes:g} GB, {BATCH} a batch",
                f"Median (and range) of {ROUNDS} rounds, the ways in turn.",
                crops_table(folder / "noise", gigabytes),
                f"## Opening {UTTERANCES:,} utterances of {SPEAKERS:,} speakers",
                large_table(folder / "large"),
            ]
        )
    Path(__file__).with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
