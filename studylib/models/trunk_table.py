"""Table 1 of paper B beside ours: what each trunk holds, costs and sees.

`trunk_table()` is the one call; `trunk_sizes` gives the sizes of one trunk as a run builds it.
Sizes are exact; speeds are of this machine, and taken from a wall clock, so they mean little while
other programs are running.
"""

import copy
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from studylib.models.features import FEATURES, SAMPLE_RATE, STEP, WINDOW
from studylib.models.squeeze_excitation import SqueezeExcitation
from studylib.models.trunks import TRUNKS

TWO_SECONDS = 200 * STEP + 240  # samples: the crop of paper B

# Million parameters, giga multiply-adds: paper B, Table 1; of SincTDNN paper A, section 3.
PAPERS = {
    "vgg_m40": (4.0, 0.53),
    "thin_resnet34": (1.4, 0.99),
    "fast_resnet34": (1.4, 0.45),
    "sinc_xvector": (4.34, None),
}


def trunk_table(
    names: Iterable[str] = tuple(TRUNKS),
    *,
    batch_size: int = 16,
    seconds: float = 2.0,
    device: str | torch.device = "cpu",
) -> dict[str, dict[str, object]]:
    """One row for each trunk, with the constructor's defaults, for a 2-s input.

    Parameters
    ----------
    names : iterable of str, optional
        Trunks to show; all of them by default.
    batch_size : int
        Utterances in a batch while speed is measured.
    seconds : float
        Time spent on each of the two speeds of a trunk; 0 leaves them out.
    device : str or torch.device
        Where speed is measured.

    Returns
    -------
    dict
        Trunk -> features; parameters; paper_parameters (millions); multiply_adds (from features to
        embedding, linear layers included); paper_multiply_adds (billions); frames that reach the
        pooling; receptive_field of one of them, in seconds; trained and embedded, utterances a
        second from the waveform on, with backward pass and Adam step, or without.
    """
    return {name: _row(name, batch_size, seconds, torch.device(device)) for name in names}


def _row(name: str, batch_size: int, seconds: float, device: torch.device) -> dict[str, object]:
    trunk = TRUNKS[name]()
    parameters, billions = PAPERS.get(name, (None, None))
    row = {
        "features": trunk.features,
        **trunk_sizes(name),
        "paper_parameters": parameters,
        "paper_multiply_adds": billions,
        "frames": count_frames(trunk),
    }
    if seconds > 0:
        model = nn.Sequential(FEATURES[trunk.features](), trunk).to(device)
        waveform = 0.1 * torch.randn(batch_size, TWO_SECONDS, device=device)
        row["trained"] = batch_size * per_second(training_step(model, waveform), seconds)
        row["embedded"] = batch_size * per_second(embedding_step(model, waveform), seconds)
    return row


def trunk_sizes(name: str, parameters: Mapping[str, Any] = {}) -> dict[str, float]:
    """What a trunk built with these keywords holds, costs and sees.

    Returns
    -------
    dict
        parameters, multiply_adds and receptive_field, as in `trunk_table`.
    """
    trunk = TRUNKS[name](**parameters)
    return {
        "parameters": count_parameters(trunk),
        "multiply_adds": count_multiply_adds(trunk),
        "receptive_field": receptive_field(trunk),
    }


def count_parameters(trunk: nn.Module) -> int:
    return sum(parameter.numel() for parameter in trunk.parameters())


def count_multiply_adds(trunk: nn.Module, n_samples: int = TWO_SECONDS) -> int:
    """Multiply-adds of convolutions and matrix products, for one input of so many samples."""
    # Its first use takes some seconds, of which a user who wants no table should know nothing.
    from torch.utils.flop_counter import FlopCounterMode

    features = features_of(trunk, n_samples)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        trunk.eval()(features)
    return counter.get_total_flops() // 2


def count_frames(trunk: nn.Module, n_samples: int = TWO_SECONDS) -> int:
    """Frames that reach the pooling, for one input of so many samples."""
    return frames_before_pooling(trunk.eval(), features_of(trunk, n_samples)).shape[2]


def features_of(trunk: nn.Module, n_samples: int) -> Tensor:
    """The features (1, F, T) of some noise."""
    noise = torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))
    return FEATURES[trunk.features]()(noise)


@torch.no_grad()
def frames_before_pooling(trunk: nn.Module, features: Tensor) -> Tensor:
    """What the trunk passes to its pooling: (B, C, T)."""
    seen = []
    handle = trunk.pooling.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trunk(features)
    handle.remove()
    return seen[0]


class _OpenGates(nn.Module):
    """In place of squeeze-excitation: lets everything through."""

    def forward(self, x: Tensor) -> Tensor:
        return x.new_ones(())


def receptive_field(trunk: nn.Module) -> float:
    """Seconds of signal that one frame before the pooling depends on, through convolutions.

    What sees the whole input anyway (normalisation over time, squeeze-excitation) is taken out
    first. Then a frame in the middle of a long input is NaN exactly if any input that it depends
    on is: the first and the last such input are found by halving.
    """
    local = copy.deepcopy(trunk).eval()
    for module in list(local.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm1d):
                setattr(module, name, nn.Identity())
            if isinstance(child, SqueezeExcitation):
                setattr(module, name, _OpenGates())
    features = features_of(trunk, 3 * SAMPLE_RATE)
    middle = frames_before_pooling(local, features).shape[2] // 2

    def depends_on(part: slice) -> bool:
        spoiled = features.clone()
        spoiled[:, :, part] = torch.nan
        return bool(frames_before_pooling(local, spoiled)[0, :, middle].isnan().any())

    length = features.shape[2]
    first = _smallest(lambda n: depends_on(slice(0, n)), length) - 1
    last = length - _smallest(lambda n: depends_on(slice(length - n, length)), length)
    if trunk.features == "waveform":
        return (last - first + 1) / SAMPLE_RATE
    return ((last - first) * STEP + WINDOW) / SAMPLE_RATE


def _smallest(holds: Callable[[int], bool], most: int) -> int:
    """The smallest n in 1 ... most for which it holds, given that it holds from there on."""
    low, high = 0, most
    while high - low > 1:
        n = (low + high) // 2
        low, high = (low, n) if holds(n) else (n, high)
    return high


def training_step(model: nn.Module, waveform: Tensor) -> Callable[[], None]:
    """Features, forward and backward pass, Adam."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        model.train()(waveform).square().mean().backward()
        optimiser.step()

    return step


def embedding_step(model: nn.Module, waveform: Tensor) -> Callable[[], None]:
    """Features and forward pass in evaluation mode."""

    @torch.inference_mode()
    def step() -> None:
        model.eval()(waveform)

    return step


def per_second(step: Callable[[], None], seconds: float) -> float:
    """How often a second can be done: the median over as many times as fit, at least three."""
    step()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        wait_for_device()
        start = time.perf_counter()
        step()
        wait_for_device()
        times.append(time.perf_counter() - start)
    return 1 / sorted(times)[len(times) // 2]


def wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
