"""What a training step costs, for each trunk, and what was tried to make it cost less.

`python -m benchmarks.trunks` prints three tables and writes them to benchmarks/trunks.md. All times
are medians over single steps on random 2-s crops, in seconds of processor time on one thread, so
that other programs on the machine matter less.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torchaudio import transforms

from benchmarks.measuring import markdown, processor
from studylib.models.features import (
    FFT_SIZE,
    N_MELS,
    SAMPLE_RATE,
    STEP,
    WINDOW,
    LogMel,
    make_features,
)
from studylib.models.trunk_table import TWO_SECONDS
from studylib.models.trunks import TRUNKS

OUT = Path(__file__).with_suffix(".md")
BATCH_SIZES = {"compact_tdnn": 128}  # of the others: 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    lines = [
        "# Cost of a training step",
        "",
        f"{processor()}, shared with other programs; one thread, seconds of processor time; "
        f"PyTorch {torch.__version__}; medians of {options.repeats} steps; written by "
        "`python -m benchmarks.trunks`.",
        *table_of_trunks(options.repeats),
        *table_of_features(options.repeats),
        *table_of_variants(options.repeats),
    ]
    text = "\n".join(lines) + "\n"
    OUT.write_text(text, encoding="utf-8")
    print(text)


def crops(batch_size: int) -> Tensor:
    return 0.1 * torch.randn(batch_size, TWO_SECONDS)


def milliseconds(job: Callable[[], object], repeats: int) -> float:
    """The median over single runs, after one to warm up."""
    job()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        job()
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times)


# -------------------------------------------------------------------------------- trunks


def table_of_trunks(repeats: int) -> list[str]:
    table = [("trunk", "batch", "crops/s", "features", "forward", "backward and Adam")]
    for name in TRUNKS:
        batch_size = BATCH_SIZES.get(name, 16)
        parts = step_parts(name, batch_size, repeats)
        speed = 1000 * batch_size / sum(parts)
        shares = (f"{part / sum(parts):.0%}" for part in parts)
        table.append((name, str(batch_size), f"{speed:.1f}", *shares))
    return ["", "## Trunks", "", markdown(table)]


def step_parts(name: str, batch_size: int, repeats: int) -> list[float]:
    """Median milliseconds of features, of the forward pass, and of backward pass and Adam."""
    trunk = TRUNKS[name]().train()
    features, waveform = make_features(trunk), crops(batch_size)
    optimiser = torch.optim.Adam(trunk.parameters())
    steps = []
    for _ in range(repeats + 1):
        ticks = [time.process_time()]
        inputs = features(waveform)
        ticks.append(time.process_time())
        loss = trunk(inputs).square().mean()
        ticks.append(time.process_time())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        ticks.append(time.process_time())
        steps.append([1000 * (b - a) for a, b in itertools.pairwise(ticks)])
    return [statistics.median(part) for part in zip(*steps[1:], strict=True)]


# ------------------------------------------------------------------------------ features


def table_of_features(repeats: int) -> list[str]:
    table = [("way", "ms")]
    waveform = crops(128)
    for name, way in log_mel_ways().items():
        table.append((name, f"{milliseconds(lambda w=way: w(waveform), repeats) / 128:.3f}"))
    return ["", "## Log-mel of 128 crops, milliseconds a crop", "", markdown(table)]


def log_mel_ways() -> dict[str, Callable[[Tensor], Tensor]]:
    """Log-mel by way: all give the same numbers, up to rounding."""
    ours = LogMel()
    frames = {"n_fft": FFT_SIZE, "win_length": WINDOW, "hop_length": STEP}
    transform = transforms.MelSpectrogram(
        SAMPLE_RATE, **frames, n_mels=N_MELS, window_fn=torch.hamming_window
    )

    def whole(waveform: Tensor) -> Tensor:
        return transform(waveform).add(1e-6).log()

    return {
        "torchaudio's MelSpectrogram, whole batch": whole,
        "the same, 8 crops at a time": lambda waveform: torch.cat(
            [whole(chunk) for chunk in waveform.split(8)]
        ),
        "its complex spectrogram and one product, whole batch": lambda waveform: (
            ours.mel_power(waveform).add(1e-6).log()
        ),
        "the same, 8 crops at a time (ours)": ours,
    }


# ------------------------------------------------------------------------------ variants


def table_of_variants(repeats: int) -> list[str]:
    formats = ["plain", "channels_last", "bf16 autocast", "both"]
    table = [("trunk", *formats)]
    for name in ("fast_resnet34", "vgg_m40", "ecapa_tdnn", "compact_tdnn"):
        speeds = [variant_speed(name, form, repeats) for form in formats]
        table.append((name, *(f"{s:.1f}" for s in speeds)))
    title = "## Layouts and number formats, training crops/s, batch 16"
    return ["", title, "", markdown(table)]


def variant_speed(name: str, form: str, repeats: int) -> float:
    """Training crops a second, without features."""
    trunk = TRUNKS[name]().train()
    if form in ("channels_last", "both"):
        in_channels_last(trunk)
    inputs = make_features(trunk)(crops(16))
    optimiser = torch.optim.Adam(trunk.parameters())
    reduced = form in ("bf16 autocast", "both")

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=reduced):
            loss = trunk(inputs).float().square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return 16_000 / milliseconds(step, repeats)


def in_channels_last(trunk: nn.Module) -> None:
    """Weights in channels-last order: each convolution then passes that order on."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
