"""The training engine beside a plain loop: its speed and where it goes, its loader, its memory.

    python -m benchmarks.engine [--device cuda] [--trunks NAME ...] [--only SECTION ...]

prints four sections and writes them to engine.md beside this file; one that is not run keeps its
old text there. On a CPU everything runs on one thread, and times are processor times of the whole
process, which other programs disturb little. On a GPU they are times on the clock. The two loops
take turns, step by step; figures are medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import soundfile
import torch
import torchaudio
from studylib.training.optimizers import zero_grad
from studylib.training.step import TrainingStep
from torch import Tensor

from benchmarks.engine_memory import growth, memory
from benchmarks.engine_runs import SPEAKERS, UTTERANCES, loader_and_sampler, settings_of
from benchmarks.measuring import markdown, processor, write_sections
from benchmarks.plain_loop import plain_loop
from studylib.corpora.store import SAMPLE_RATE, Corpus
from studylib.corpora.synthetic.embedded import EmbeddedSettings, prepare
from studylib.models.embedder import as_waveforms
from studylib.models.trunk_table import count_multiply_adds
from studylib.models.trunks import TRUNKS
from studylib.training.acceleration import set_arithmetic
from studylib.training.learner import build_learner
from studylib.training.loading import Loader
from studylib.training.sampling import BatchSampler
from studylib.training.settings import RunSettings

OUT = Path(__file__).with_suffix(".md")
CORPUS = EmbeddedSettings(
    n_train_speakers=40, train_utterances=4, n_dev_speakers=1, dev_utterances=2,
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
    loader, sampler = loader_and_sampler(settings, corpus, device)
    batches = batches_of(loader, sampler, device)
    half = settings.train.precision == "bfloat16"

    def whole(_: Stopwatch) -> Tensor:
        return step(*next(batches), 0, 0.0)

    def in_parts(watch: Stopwatch) -> None:
        samples, labels = next(batches)
        watch.lap("loader")
        zero_grad(learner.optimizer.parameters)
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
        learner.optimizer.step(0.001)
        watch.lap("optimizer")

    return whole, in_parts


def batches_of(
    loader: Loader, sampler: BatchSampler, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader's batches; on a single core without the thread that would share it."""
    if device.type != "cpu":
        return loader.batches(sampler, range(10**9))
    drawn = loader.drawn(sampler, range(10**9))
    return ((crops.read(), labels) for crops, labels in drawn)


def seconds_a_step(step: Step, steps: int, device: torch.device) -> float:
    watch = Stopwatch(device, by_part=False)
    for _ in range(steps):
        step(watch)
    return (watch.now() - watch.last) / steps


def parts_of(step: Step, device: torch.device) -> dict[str, float]:
    watch = Stopwatch(device, by_part=True)
    step(watch)
    return watch.parts


def compare(name: str, corpus: Corpus, waves: Path, options: argparse.Namespace) -> dict:
    """Both loops by turns: median seconds of a step, of each of its parts, and their ratio."""
    device, steps = options.device, options.steps
    settings = settings_of(name, device, compile=options.compile)
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


def product_speed(device: torch.device) -> float:
    """Multiply-adds a second of one large matrix product, in the format of the engine's trunk."""
    size, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (1024, torch.float32)
    a = torch.randn(size, size, device=device, dtype=dtype)
    watch = Stopwatch(device, by_part=False)
    times = []
    for _ in range(8):
        begin = watch.now()
        a @ a
        times.append(watch.now() - begin)
    return size**3 / statistics.median(times[1:])


def speed(corpus: Corpus, waves: Path, options: argparse.Namespace) -> list[str]:
    batch, limit = SPEAKERS * UTTERANCES, product_speed(options.device)
    lines = [
        f"Batches of {SPEAKERS} x {UTTERANCES} crops of 2 s, angular prototypical, Adam; medians "
        f"of {options.repeats} repetitions by turns. The share of the limit sets three times the "
        f"trunk's multiply-adds against those of one large matrix product here, "
        f"{limit / 1e9:,.0f} G/s.",
        "",
    ]
    table = [("trunk", "loop", "crops/s", *PARTS, "of the limit", "engine / plain")]
    for name in options.trunks:
        found, cost = compare(name, corpus, waves, options), count_multiply_adds(TRUNKS[name]())
        for loop in ("engine", "plain"):
            seconds, parts = found[loop]["seconds"], found[loop]["parts"]
            whole = sum(parts.values())
            shares = (f"{100 * parts[part] / whole:.1f} %" for part in PARTS)
            reached = 3 * cost * batch / seconds / limit
            ratio = f"{found['ratio']:.2f}" if loop == "engine" else ""
            table.append((name, loop, f"{batch / seconds:,.1f}", *shares, f"{reached:.0%}", ratio))
            print(*table[-1], flush=True)
    return [*lines, markdown(table)]


# ---------------------------------------------------------------------------------- loader


def loading(corpus: Corpus, waves: Path, options: argparse.Namespace) -> list[str]:
    device = options.device
    rates = {}
    for audio in ("memory_map", "device"):
        settings = settings_of("compact_tdnn", device, audio=audio)
        batches = batches_of(*loader_and_sampler(settings, corpus, device), device)
        rates[audio] = median_rate(lambda b=batches: next(b), device, steps=20)
    whole, _ = engine(settings_of("compact_tdnn", device), corpus, device)
    rates["whole files, as the plain loop reads them"] = median_rate(
        plain_loop("compact_tdnn", corpus, waves, device, SPEAKERS, UTTERANCES, only_read=True),
        device,
        steps=2,
    )
    watch = Stopwatch(device, by_part=False)
    consumed = median_rate(lambda: whole(watch), device, steps=options.steps)
    told = rates | {"compact_tdnn, the fastest trunk, trains on": consumed}
    table = [("way", "crops/s"), *((way, f"{rate:,.0f}") for way, rate in told.items())]
    times = f"The memory map gives {rates['memory_map'] / consumed:,.0f} times that."
    return [markdown(table), "", times]


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
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[name.lower() for name in SECTIONS])
    options = parser.parse_args()
    on_cpu = options.device.type == "cpu"
    options.trunks = options.trunks or (MEASURED_TRUNKS if on_cpu else [*TRUNKS])
    options.steps = options.steps or (1 if on_cpu else 50)
    torch.set_num_threads(1 if on_cpu else torch.get_num_threads())
    new = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        corpus = prepare(CORPUS, folder / "corpus", workers=1, progress=False)
        write_waves(corpus, folder / "waves")
        for title, section in SECTIONS.items():
            if not options.only or title.lower() in options.only:
                lines = section(corpus, folder / "waves", options)
                new[title] = "\n".join([measured_on(options.device), "", *lines])
    write_sections(OUT, HEAD, SECTIONS, new)
    print(OUT.read_text(encoding="utf-8"))


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
