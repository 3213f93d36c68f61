"""Table 1 of paper B beside ours: what each trunk holds, costs and sees, exactly.

Speeds are measured by `benchmarks/trunks.py`.
"""

import copy
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from studylib.models.features import FEATURES, SAMPLE_RATE, STEP, WINDOW
from studylib.models.normalisation import SubtractMean
from studylib.models.squeeze_excitation import SqueezeExcitation
from studylib.models.trunks import TRUNKS, trunk_keywords

TWO_SECONDS = 200 * STEP + 240  # samples: the crop of paper B

# Million parameters, giga multiply-adds: paper B, Table 1; of SincTDNN paper A, section 3.
PAPERS = {
    "vgg_m40": (4.0, 0.53),
    "thin_resnet34": (1.4, 0.99),
    "fast_resnet34": (1.4, 0.45),
    "sinc_xvector": (4.34, None),
}


def trunk_table() -> dict[str, dict[str, object]]:
    """One row for each trunk, with the constructor's defaults, for paper B's 2-s crop.

    Returns
    -------
    dict
        Trunk -> features; parameters, multiply_adds, frames and receptive_field of `trunk_sizes`;
        paper_parameters (millions); paper_multiply_adds (billions).
    """
    table = {}
    for name, trunk in TRUNKS.items():
        parameters, multiply_adds = PAPERS.get(name, (None, None))
        papers = {"paper_parameters": parameters, "paper_multiply_adds": multiply_adds}
        table[name] = {"features": trunk.features} | trunk_sizes(name) | papers
    return table


def trunk_sizes(name: str, parameters: Mapping[str, Any] = {}) -> dict[str, float]:
    """What a trunk built with these keywords holds, costs and sees.

    Returns
    -------
    dict
        parameters; multiply_adds of the convolutions and linear layers, from features to embedding,
        of paper B's 2-s crop; frames of it that reach the pooling; receptive_field of one of those
        frames, in seconds.
    """
    trunk = TRUNKS[name](**trunk_keywords(name, parameters)).eval()
    return {
        "parameters": sum(parameter.numel() for parameter in trunk.parameters()),
        "multiply_adds": count_multiply_adds(trunk),
        "frames": frames_before_pooling(trunk, features_of(trunk, TWO_SECONDS)).shape[2],
        "receptive_field": receptive_field(trunk),
    }


@torch.no_grad()
def count_multiply_adds(trunk: nn.Module) -> int:
    """Multiply-adds of convolutions and matrix products, for paper B's 2-s crop."""
    # Its import takes seconds, which only those should wait who want the count.
    from torch.utils.flop_counter import FlopCounterMode

    features = features_of(trunk, TWO_SECONDS)
    with FlopCounterMode(display=False) as counter:
        trunk.eval()(features)
    return counter.get_total_flops() // 2


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


def receptive_field(trunk: nn.Module) -> float:
    """Seconds of signal that one frame before the pooling depends on, through convolutions.

    What sees the whole input anyway (normalisation over time, squeeze-excitation) is taken out
    first. Then a frame in the middle of a long input is NaN exactly if any input that it depends
    on is: the first and the last such input are found by halving.
    """
    local = copy.deepcopy(trunk).eval()
    for module in list(local.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm1d | SubtractMean):
                setattr(module, name, nn.Identity())
            if isinstance(child, SqueezeExcitation):
                setattr(module, name, nn.Sigmoid())  # a gate of each number by itself
    features = features_of(trunk, 3 * SAMPLE_RATE)
    length, middle = features.shape[2], frames_before_pooling(local, features).shape[2] // 2

    def depends_on(part: slice) -> bool:
        spoiled = features.clone()
        spoiled[:, :, part] = torch.nan
        return bool(frames_before_pooling(local, spoiled)[0, :, middle].isnan().any())

    before = bisect_left(range(length), True, key=lambda n: depends_on(slice(n + 1)))
    after = bisect_left(range(length), True, key=lambda n: depends_on(slice(length - n - 1, None)))
    seen = length - before - after
    if trunk.features == "waveform":
        return seen / SAMPLE_RATE
    return ((seen - 1) * STEP + WINDOW) / SAMPLE_RATE
