"""What a run asks of its device: number formats, memory layouts, faster or repeatable kernels.

Each choice is a key of `train`. None changes what is computed, only its rounding and its speed.
"""

import os

import torch
from torch import nn

from studylib.training.settings import TrainSettings

COMPILER = "inductor"


def set_arithmetic(settings: TrainSettings, device: torch.device) -> None:
    """Set torch's global switches to what this run asks for; call it before every run.

    With `deterministic`, the same run gives the same bits on the same machine: kernels whose
    result depends on the order in which threads finish are avoided (where there is no other,
    torch warns), and cuDNN does not choose kernels by how fast they were this time. A CPU gives
    the same bits anyway.
    """
    if settings.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may vary
    if settings.deterministic != torch.are_deterministic_algorithms_enabled():
        # Not otherwise: it imports torch's compiler, which takes seconds.
        torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, finds only mistakes
    torch.backends.cudnn.deterministic = settings.deterministic
    torch.backends.cudnn.benchmark = device.type == "cuda" and not settings.deterministic
    torch.backends.cudnn.conv.fp32_precision = "tf32" if settings.precision == "tf32" else "ieee"


def prepare_model(model: nn.Module, settings: TrainSettings) -> None:
    """Give a model, in place, the layout and the kernels that it is to be trained with."""
    if settings.channels_last:
        in_channels_last(model)
    if settings.compile:
        model.compile(backend=COMPILER, dynamic=False)


def in_channels_last(model: nn.Module) -> None:
    """Weights of 2-D convolutions in channels-last order: each then passes that order on."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)


def fused_optimizer(settings: TrainSettings, device: torch.device) -> bool | None:
    """What `fused` of an optimizer shall be: True, or None for torch's own choice."""
    wanted = settings.fused_optimizer
    return True if wanted is True or (wanted == "auto" and device.type == "cuda") else None
