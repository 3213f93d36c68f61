"""What the engine holds in memory: against the batch size, and over ten thousand steps.

`engine.py` runs this. Each figure comes from a process of its own.
"""

import argparse
import itertools
import json
import os
import resource
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.engine_runs import batches_of, settings_of
from benchmarks.measuring import in_own_process, markdown
from studylib.corpora.store import SAMPLE_RATE, Corpus, open_corpus
from studylib.training.learner import build_learner
from studylib.training.loop import TrainingStep, train

BATCH_SIZES, CHUNK = (200, 800, 3_200, 6_400), 200
MIB = 2**20
LARGEST_SHARE = 0.8  # of the machine's memory
GROWTH_STEPS = 10_000


def resident_mib(kind: str) -> float:
    """Memory of this process that files do not back (RssAnon), or all that it holds (VmRSS)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


class Peak:
    """The highest RssAnon while it lasts, looked at every 10 ms."""

    def __enter__(self) -> "Peak":
        self.mib, self.over = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.01):
            self.mib = max(self.mib, resident_mib("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


def wide_corpus(folder: Path) -> Corpus:
    """3,200 speakers of two utterances: pieces of one short noise, which suffices for memory."""
    rng, n = np.random.default_rng(0), BATCH_SIZES[-1]
    rng.integers(-3000, 3000, 30 * SAMPLE_RATE, dtype=np.int16).tofile(folder / "audio.i16")
    speakers = [f"{i // 2:04d}" for i in range(n)]
    table = {"id": [str(i) for i in range(n)], "speaker": speakers, "split": "train"}
    places = {"start": rng.integers(0, 20 * SAMPLE_RATE, n), "length": 5 * SAMPLE_RATE}
    return Corpus(folder, pd.DataFrame(table | places), {})


def step_memory(connection, device: torch.device, trunk: str, batch: int, chunk: int) -> None:
    """Send two peaks in MiB: what the process holds in a first step, and the tensors of a second.

    Or None, if that is more than there is.
    """
    torch.set_num_threads(1)
    limit = int(LARGEST_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # an error, where else all would hang
    keys = {"speakers_per_batch": batch // 2, "chunk_crops": chunk, "crop_seconds": 1.0}
    settings = settings_of(trunk, device, **keys)
    with tempfile.TemporaryDirectory() as folder:
        corpus = wide_corpus(Path(folder))
        learner = build_learner(settings, BATCH_SIZES[-1] // 2, 0, device)
        step = TrainingStep(settings, learner, 0, device)
        batches = batches_of(settings, corpus, device)
        first, second = next(batches), next(batches)
        try:
            with Peak() as peak:
                step(*first, 0, 0.0)
            held = torch.cuda.max_memory_reserved() / MIB if device.type == "cuda" else peak.mib
            connection.send((held, tensors_of(lambda: step(*second, 1, 0.0), device)))
        except RuntimeError as error:
            if "memory" not in str(error):
                raise
            connection.send(None)


def tensors_of(job: Callable[[], object], device: torch.device) -> float:
    """The most that the tensors made by a job, and alive at once, take up in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        job()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        job()
    with tempfile.TemporaryDirectory() as folder:
        profiled.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]")
    return max(itertools.accumulate(size for _, size in changes)) / MIB


def memory(corpus: Corpus, waves: Path, options: argparse.Namespace) -> list[str]:
    rows = [["trunk", "step", "MiB of", *(f"{n:,} crops" for n in BATCH_SIZES), "last / first"]]
    for trunk in options.memory_trunks:
        for what, chunk in (("plain", 0), (f"chunks of {CHUNK}", CHUNK)):
            for kind, cells in memory_rows(options.device, trunk, chunk).items():
                rows.append([trunk, what, kind, *cells])
                print(*rows[-1], sep=" | ", flush=True)
    return [
        "N x 2 crops of 1 s, angular prototypical, the peak of one step in a fresh process: the "
        "tensors that the step makes and that live at once, and all that the process holds (on a "
        "CPU what files do not back: Python, torch, what the allocator keeps in stock, and two "
        "batches of crops, 2 bytes a sample: 6 MiB at 200 crops, 195 at 6,400). A step "
        f"does not fit if it needs more than {LARGEST_SHARE:.0%} of the machine's memory.",
        "",
        markdown(rows),
        "",
        "What grows with chunks too is the loss itself (matrices of N x N) and the embeddings.",
    ]


def memory_rows(device: torch.device, trunk: str, chunk: int) -> dict[str, list[str]]:
    """Peaks against batch size; a plain step that does not fit ends the row."""
    peaks: list[tuple[float, float]] = []
    for batch in BATCH_SIZES:
        peak = in_own_process(step_memory, device, trunk, batch, chunk, start="spawn")
        if peak is None:
            break
        peaks.append(peak)
    missing = len(BATCH_SIZES) - len(peaks)
    held, tensors = zip(*peaks, strict=True)
    return {
        kind: [
            *(f"{peak:,.0f}" for peak in each),
            *["does not fit"] * missing,
            "" if missing else f"{each[-1] / each[0]:.2f}",
        ]
        for kind, each in (("tensors", tensors), ("process", held))
    }


def train_and_watch(connection, folder: Path, device: torch.device) -> None:
    """Send (share of the run, MiB held) as a training of 10,000 tiny steps goes on."""
    torch.set_num_threads(1)
    keys = {"speakers_per_batch": 2, "crop_seconds": 0.5, "threads": 1}
    small = {"embedding_dim": 16, "channels": 8}
    settings = settings_of("compact_tdnn", device, small, crops=4 * GROWTH_STEPS, **keys)
    seen: list[tuple[int, float]] = []

    def report(line: str) -> None:
        crops = int(line.split(" of ")[0].replace(",", ""))
        seen.append((crops // 4, resident_mib("VmRSS")))

    with tempfile.TemporaryDirectory() as out:
        checkpoints = Path(out) / "checkpoints"
        corpus, keys = open_corpus(folder), {"key": "growth", "report": report}
        train(settings, corpus, 0, Path(out) / "run", checkpoints=checkpoints, **keys)
    connection.send(seen)


def growth(corpus: Corpus, waves: Path, options: argparse.Namespace) -> list[str]:
    seen = in_own_process(train_and_watch, corpus.folder, options.device, start="spawn")
    first = next(pair for pair in seen if pair[0] >= GROWTH_STEPS // 10)
    last = seen[-1]
    return [
        f"{GROWTH_STEPS:,} steps of `train`, tiny trunk, 2 x 2 crops of 0.5 s: the process held "
        f"{first[1]:.1f} MiB at step {first[0]:,} and {last[1]:.1f} MiB at step {last[0]:,}, "
        f"{100 * (last[1] / first[1] - 1):+.2f} %."
    ]
