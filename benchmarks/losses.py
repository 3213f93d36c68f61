"""Time and memory of one step (forward and backward) of each loss, on one core.

    OMP_NUM_THREADS=1 python -m benchmarks.losses

prints a Markdown table and writes it beside this file. Angular prototypical and GE2E are also timed
in the form that lays every utterance beside every prototype in one tensor, which public code uses:
it is written out below. Each cell runs in a process of its own, forked before anything is computed,
so that its peak is its own (Linux only). Times are medians of the processor time of a single
thread, kernel included: the wall time on an idle core, and little disturbed by other programs.
"""

import inspect
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measuring import in_own_process, markdown, processor
from studylib.losses import LOSSES

EMBEDDINGS = (200, 400, 800, 3200)
DIMENSIONS, SPEAKERS = 512, 5994
MEMORY_LIMIT = 8 * 2**30
SECONDS_A_CELL = 2.0
NUMBERS = {
    "margin": 0.2,
    "scale": 30.0,
    "alpha": 6.25,
    "center_weight": 1.0,
    "hard_fraction": 0.01,
    "n_subcenters": 3,
    "n_rivals": 5,
    "rival_margin": 0.06,
    "positive_weight": 0.7,
    "t": 3.0,
    "temperature": 0.1,
}


def by_pairs(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row of x (A, D) with each of y (B, D), through a tensor of A x B x D."""
    shape = (len(x), len(y), x.shape[1])
    return F.cosine_similarity(x[:, None].expand(shape), y[None].expand(shape), dim=2)


def angular_prototypical_by_pairs(loss: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    cosines = by_pairs(x[:, -1], x[:, :-1].mean(dim=1))
    return F.cross_entropy(loss.w * cosines + loss.b, torch.arange(len(x)))


def ge2e_by_pairs(loss: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    n, m, d = x.shape
    centroids = x.mean(dim=1)
    left_out = (x.sum(dim=1, keepdim=True) - x) / (m - 1)
    cosines = by_pairs(x.reshape(n * m, d), centroids)
    own = torch.arange(n).repeat_interleave(m)
    cosines_own = F.cosine_similarity(x, left_out, dim=2).reshape(n * m, 1)
    cosines = cosines.scatter(1, own[:, None], cosines_own)
    return F.cross_entropy(loss.w * cosines + loss.b, own)


BY_PAIRS = {"angular_prototypical": angular_prototypical_by_pairs, "ge2e": ge2e_by_pairs}


def build(name: str) -> nn.Module:
    keywords = inspect.signature(LOSSES[name]).parameters.values()
    numbers = {p.name: NUMBERS[p.name] for p in keywords if p.default is p.empty and p.kind == 3}
    torch.manual_seed(0)
    return LOSSES[name](DIMENSIONS, SPEAKERS, **numbers)


def batch(name: str, n_embeddings: int) -> tuple[Tensor, Tensor]:
    """Two utterances of each speaker for metric losses, one for classification."""
    m = LOSSES[name].min_utterances_per_speaker
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(n_embeddings // m, m, DIMENSIONS, generator=generator)
    labels = torch.randperm(SPEAKERS, generator=generator)[: n_embeddings // m]
    return embeddings.requires_grad_(), labels


def pair_bytes(name: str, n_embeddings: int) -> int:
    """Size of one tensor of all pairs; a step holds about four of them."""
    speakers = n_embeddings // 2
    queries = speakers if name == "angular_prototypical" else n_embeddings
    return 4 * queries * speakers * DIMENSIONS


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(connection, name: str, n_embeddings: int, step: Callable | None) -> None:
    """Send the median seconds of a step, the bytes it adds to the resident memory, and its loss."""
    torch.set_num_threads(1)
    loss = build(name)
    embeddings, labels = batch(name, n_embeddings)
    before = peak_kib()

    def run() -> float:
        loss.zero_grad()
        embeddings.grad = None
        value = loss(embeddings, labels) if step is None else step(loss, embeddings, labels)
        value.backward()
        return value.item()

    value = run()  # also warms up
    peak = peak_kib() - before
    seconds = []
    while len(seconds) < 3 or (len(seconds) < 50 and sum(seconds) < SECONDS_A_CELL):
        begin = time.process_time()
        run()
        seconds.append(time.process_time() - begin)
    connection.send((statistics.median(seconds), peak * 1024, value))


def cell(name: str, n_embeddings: int, step: Callable | None = None) -> tuple[float, int, float]:
    return in_own_process(measure, name, n_embeddings, step, start="fork")


def shown(seconds: float, peak: int) -> str:
    time_shown = f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
    return f"{time_shown}, {peak / 2**20:.0f} MiB"


def table() -> tuple[str, list[str]]:
    rows, ratios = [], []
    for name in LOSSES:
        ours = {size: cell(name, size) for size in EMBEDDINGS}
        rows.append([f"`{name}`", *(shown(*ours[size][:2]) for size in EMBEDDINGS)])
        print(*rows[-1], sep=" | ", file=sys.stderr)
        if name not in BY_PAIRS:
            continue
        entries = [f"`{name}`, all pairs in one tensor"]
        for size in EMBEDDINGS:
            if 4 * pair_bytes(name, size) > MEMORY_LIMIT:
                entries.append(f"not run: {4 * pair_bytes(name, size) / 2**30:.0f} GiB")
                continue
            seconds, peak, value = cell(name, size, BY_PAIRS[name])
            if abs(value - ours[size][2]) > 1e-4 * abs(value):
                raise AssertionError(f"{name}: the two forms differ, {value} and {ours[size][2]}")
            entries.append(shown(seconds, peak))
            ratios.append(
                f"- `{name}`, {size} embeddings: {seconds / ours[size][0]:.0f} times faster than "
                "with all pairs in one tensor, for the same value."
            )
        rows.append(entries)
        print(*entries, sep=" | ", file=sys.stderr)
    head = ["loss", *(f"{size} embeddings" for size in EMBEDDINGS)]
    return markdown([head, *rows]), ratios


def main() -> None:
    if os.environ.get("OMP_NUM_THREADS") != "1":
        sys.exit("Set OMP_NUM_THREADS=1: these are figures for one core.")
    losses, ratios = table()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    text = [
        "# One step of each loss on one core",
        "",
        "Forward and backward of the loss alone, float32: median processor time of one thread, and",
        "what the step adds to the resident memory at its peak (gradients included, embeddings and",
        f"weights not). D = {DIMENSIONS}, C = {SPEAKERS}; M = 2 for losses that compare",
        "utterances, 1 for the others.",
        "",
        f"{processor()}, {versions}.",
        "The machine was shared while this ran: trust the ratios more than the milliseconds.",
        "Written by `OMP_NUM_THREADS=1 python -m benchmarks.losses`.",
        "",
        losses,
        "",
        "`prototypical` takes longer than `angular_prototypical` because it computes distances in",
        "float64: in float32 they lose digits where embeddings are long and prototypes close.",
        "",
        *ratios,
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
