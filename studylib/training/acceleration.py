"""A run's settings of its device: repeatable kernels; the error of too little memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from studylib.errors import StudyError
from studylib.training.settings import TrainSettings


def set_arithmetic(settings: TrainSettings, device: torch.device) -> None:
    """Set torch's global switches by the run's settings; call it before every run.

    With `deterministic`, the same run gives the same bits on the same machine: kernels whose
    result depends on the order in which threads finish are avoided (where there is no other,
    torch warns), and cuDNN does not choose kernels by how fast they were this time. A CPU gives
    the same bits anyway.
    """
    if settings.deterministic and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS may vary
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time, finds only mistakes
    torch.backends.cudnn.deterministic = settings.deterministic
    torch.backends.cudnn.benchmark = device.type == "cuda" and not settings.deterministic


@contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    """Turn torch's error of a device whose memory does not hold a step into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate" not in str(error):
            raise
        raise StudyError(
            f"the memory of {device} does not hold a step: expected a batch in "
            "(smaller) chunks, train.chunk_crops"
        ) from None
