"""Table 1 of paper B beside ours: exact parameters and multiply-adds of each trunk.

Speeds are measured by `benchmarks/trunks.py`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from studylib.models.features import STEP, make_features
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
        Trunk -> features; parameters, multiply_adds and frames of `trunk_sizes`; paper_parameters
        (millions); paper_multiply_adds (billions).
    """
    table = {}
    for name, trunk in TRUNKS.items():
        parameters, multiply_adds = PAPERS.get(name, (None, None))
        papers = {"paper_parameters": parameters, "paper_multiply_adds": multiply_adds}
        table[name] = {"features": trunk.features} | trunk_sizes(name) | papers
    return table


def trunk_sizes(name: str, parameters: Mapping[str, Any] = {}) -> dict[str, float]:
    """Parameters, multiply-adds and frames of a trunk built with these keywords.

    Returns
    -------
    dict
        parameters; multiply_adds of the convolutions and linear layers, from features to embedding,
        of paper B's 2-s crop; frames of it that reach the pooling.
    """
    # late: its import takes seconds
    from torch.utils.flop_counter import FlopCounterMode

    trunk = TRUNKS[name](**trunk_keywords(name, parameters)).eval()
    noise = torch.randn(1, TWO_SECONDS, generator=torch.Generator().manual_seed(0))
    features = make_features(trunk)(noise)
    with FlopCounterMode(display=False) as counter:
        pooled = frames_before_pooling(trunk, features)
    return {
        "parameters": sum(parameter.numel() for parameter in trunk.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,
        "frames": pooled.shape[2],
    }


@torch.no_grad()
def frames_before_pooling(trunk: nn.Module, features: Tensor) -> Tensor:
    """The input of the trunk's pooling: (B, C, T)."""
    seen = []
    handle = trunk.pooling.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    trunk(features)
    handle.remove()
    return seen[0]
