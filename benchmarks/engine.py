"""The training engine beside a plain loop: its speed and where it goes, its loader, its memory.

    python -m benchmarks.engine [--trunks NAME ...] [--only SECTION ...]
    python -m benchmarks.engine --device cuda [--precision float32 bfloat16] [--compile]

On a CPU it writes four sections to engine.md beside this file; one that is not run keeps its old
text there. Everything runs on one thread, and times are processor times of the whole process, which
other programs disturb little. On a GPU it prints the table of speeds; times are on the clock. The
two loops take turns; figures are medians.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from torch import Tensor

from benchmarks.engine_memory import growth, memory
from benchmarks.engine_runs import SPEAKERS, UTTERANCES, batches_of, settings_of
from benchmarks.measuring import markdown, processor, write_sections
from benchmarks.plain_loop import plain_loop
from studylib.corpora.store import SAMPLE_RATE, Corpus
from studylib.corpora.synthetic.embedded import EmbeddedSettings, prepare
from studylib.models.embedder import as_waveforms
from studylib.models.trunks import TRUNKS
from studylib.training.acceleration import set_arithmetic
from studylib.training.learner import build_learner
from studylib.training.loading import prefetch
from studylib.training.loop import TrainingStep
from studylib.training.settings import RunSettings

OUT = Path(__file__).with_suffix(".md")
CORPUS = EmbeddedSettings(
    n_train_speakers=40, train_utterances=4, n_dev_speakers=4, dev_utterances=4,
    n_test_speakers=1, test_utterances=2, seconds=8.0,
)  # fmt: skip
MEASURED_TRUNKS = ["compact_tdnn", "fast_resnet34"]  # on a CPU: ours, the papers'
PARTS = ("loader", "features", "trunk", "loss", "optimizer")


class Stopwatch:
    """Seconds by part. Where they are not wanted, it makes nobody wait for the device."""

    def __init__(self, device: torch.device, by_part: bool) -> None:
        self.device, self.by_part = device, by_part
        self.parts = dict.fromkeys(PARTS, 0.0)
        self.last = self.now()

    def now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def lap(self, part: str) -> None:
        """Put down the time since the last lap to this part."""
        if self.by_part:
            now = self.now()
            self.parts[part] += now - self.last
            self.last = now


Step = Callable[[Stopwatch], object]


# ----------------------------------------------------------------------------------- speed


def engine(settings: RunSettings, corpus: Corpus, device: torch.device) -> tuple[Step, Step]:
    """A training step of ours as it is, and one taken apart to time its parts."""
    learner = build_learner(settings, CORPUS.n_train_speakers, 0, device)
    step = TrainingStep(settings, learner, 0, device)
    batches = batches_of(settings, corpus, device)
    if device.type == "cuda":  # on a single core the thread would take the time of the step
        batches = prefetch(batches)
    half = settings.train.precision == "bfloat16"

    def whole(_: Stopwatch) -> Tensor:
        return step(*next(batches), 0, 0.0)

    def in_parts(watch: Stopwatch) -> None:
        samples, labels = (each.to(device, non_blocking=True) for each in next(batches))
        watch.lap("loader")
        learner.optimizer.zero_grad()
        features = learner.model.features(as_waveforms(samples))
        watch.lap("features")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            embeddings = learner.model.trunk(features)
        watch.lap("trunk")
        leaf = embeddings.detach().requires_grad_()
        learner.criterion(leaf.unflatten(0, (len(labels), -1)), labels).backward()
        watch.lap("loss")
        embeddings.backward(leaf.grad)
        watch.lap("trunk")
        learner.optimizer.step()
        watch.lap("optimizer")

    return whole, in_parts


def seconds_a_step(step: Step, steps: int, device: torch.device) -> float:
    watch = Stopwatch(device, by_part=False)
    for _ in range(steps):
        step(watch)
    return (watch.now() - watch.last) / steps


def parts_of(step: Step, device: torch.device) -> dict[str, float]:
    watch = Stopwatch(device, by_part=True)
    step(watch)
    return watch.parts


def compare(
    name: str, corpus: Corpus, waves: Path, options: argparse.Namespace, **changed
) -> dict[str, Any]:
    """Both loops by turns: median seconds of a step, of each of its parts, and their ratio."""
    device, steps = options.device, options.steps
    settings = settings_of(name, device, **changed)
    whole, in_parts = engine(settings, corpus, device)
    plain = plain_loop(name, corpus, waves, device, SPEAKERS, UTTERANCES)
    times = {"engine": [], "plain": []}
    shares = {"engine": [], "plain": []}
    for repetition in range(options.repeats + 1):
        set_arithmetic(settings.train, device)
        ours = seconds_a_step(whole, steps, device), parts_of(in_parts, device)
        as_torch_is(device)
        theirs = seconds_a_step(plain, steps, device), parts_of(plain, device)
        if repetition:  # the first warms up
            for loop, (total, parts) in (("engine", ours), ("plain", theirs)):
                times[loop].append(total)
                shares[loop].append(parts)
    found = {
        loop: {
            "seconds": statistics.median(times[loop]),
            "parts": {p: statistics.median(s[p] for s in shares[loop]) for p in PARTS},
        }
        for loop in times
    }
    pairs = zip(times["engine"], times["plain"], strict=True)
    return found | {"ratio": statistics.median(theirs / ours for ours, theirs in pairs)}


def as_torch_is(device: torch.device) -> None:
    """Torch's own switches, which a plain loop leaves alone."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.conv.fp32_precision = "tf32"


def speed(corpus: Corpus, waves: Path, options: argparse.Namespace) -> list[str]:
    lines = [
        f"Batches of {SPEAKERS} x {UTTERANCES} crops of 2 s, angular prototypical, Adam; medians "
        f"of {options.repeats} repetitions by turns. The plain loop computes in float32.",
        "",
    ]
    table = [("trunk", "loop", "crops/s", *PARTS, "engine / plain")]
    compiled = [False, True] if options.compile else [False]
    for name, precision, compile in itertools.product(options.trunks, options.precision, compiled):
        found = compare(name, corpus, waves, options, precision=precision, compile=compile)
        for loop in ("engine", "plain"):
            parts, rate = found[loop]["parts"], SPEAKERS * UTTERANCES / found[loop]["seconds"]
            shares = (f"{100 * parts[part] / sum(parts.values()):.1f} %" for part in PARTS)
            way, ratio = "plain", ""
            if loop == "engine":
                way = f"engine, {precision}" + ", compiled" * compile
                ratio = f"{found['ratio']:.2f}"
            table.append((name, way, f"{rate:,.1f}", *shares, ratio))
            print(*table[-1], file=sys.stderr, flush=True)
    return [*lines, markdown(table)]


# ---------------------------------------------------------------------------------- loader


def loading(corpus: Corpus, waves: Path, options: argparse.Namespace) -> list[str]:
    device = options.device
    settings = settings_of("compact_tdnn", device)
    batches = batches_of(settings, corpus, device)
    rates = {"crops alone, in the page cache": median_rate(lambda: next(batches), device, steps=20)}
    plain = plain_loop("compact_tdnn", corpus, waves, device, SPEAKERS, UTTERANCES, only_read=True)
    rates["whole files, as the plain loop reads them"] = median_rate(plain, device, steps=2)
    whole, _ = engine(settings, corpus, device)
    watch = Stopwatch(device, by_part=False)
    consumed = median_rate(lambda: whole(watch), device, steps=options.steps)
    table = [("way", "crops/s"), *((way, f"{rate:,.0f}") for way, rate in rates.items())]
    table.append(("compact_tdnn, the fastest trunk, trains on", f"{consumed:,.0f}"))
    return [markdown(table)]


def median_rate(job: Callable[[], object], device: torch.device, steps: int) -> float:
    """Crops a second."""
    job()
    watch, times = Stopwatch(device, by_part=False), []
    for _ in range(5):
        begin = watch.now()
        for _ in range(steps):
            job()
        times.append(watch.now() - begin)
    return SPEAKERS * UTTERANCES * steps / statistics.median(times)


# ------------------------------------------------------------------------------------ main

HEAD = """# The training engine, measured

Written by `python -m benchmarks.engine`. The machine was shared with other programs: trust the
ratios more than the figures.
"""
SECTIONS = {
    "Speed": speed,
    "Loader": loading,
    "Memory": memory,
    "Growth": growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--trunks", nargs="+", choices=TRUNKS)
    parser.add_argument("--memory-trunks", nargs="+", choices=TRUNKS, default=MEASURED_TRUNKS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, help="steps a repetition; 1 on a CPU, 50 on a GPU")
    precisions = ["float32", "bfloat16"]
    parser.add_argument("--precision", nargs="+", choices=precisions, default=["float32"])
    parser.add_argument("--compile", action="store_true", help="measure compiled trunks as well")
    parser.add_argument("--only", nargs="+", choices=[name.lower() for name in SECTIONS])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    on_cpu = options.device.type == "cpu"
    options.trunks = options.trunks or MEASURED_TRUNKS
    options.steps = options.steps or (1 if on_cpu else 50)
    wanted = options.only or ([name.lower() for name in SECTIONS] if on_cpu else ["speed"])
    torch.set_num_threads(1 if on_cpu else torch.get_num_threads())
    new = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = prepare(CORPUS, folder / "corpus", workers=1, progress=False)
        write_waves(corpus, folder / "waves")
        for title, section in SECTIONS.items():
            if title.lower() in wanted:
                lines = section(corpus, folder / "waves", options)
                new[title] = "\n".join([measured_on(options.device), "", *lines])
                print(new[title], end="\n\n", flush=True)
    if on_cpu:
        write_sections(options.out, HEAD, SECTIONS, new)


def measured_on(device: torch.device) -> str:
    name = f"{processor()}, one thread"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return f"On: {name}; torch {torch.__version__}, torchaudio {torchaudio.__version__}."


def write_waves(corpus: Corpus, folder: Path) -> None:
    folder.mkdir()
    for row, name in enumerate(corpus.utterances["id"]):
        soundfile.write(folder / f"{name}.wav", corpus.samples(row), SAMPLE_RATE, "PCM_16")


if __name__ == "__main__":
    main()
