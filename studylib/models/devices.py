"""Where models run: the device, and how many cores this process may use."""

import os

import torch

from studylib.errors import StudyError
from studylib.files.cores import usable_cores


def choose_device(wanted: str, threads: int) -> torch.device:
    """The device named, or for "auto" the first of CUDA, MPS and CPU that is there.

    Also sets the number of CPU threads; 0 takes all cores that this process may use.

    Raises
    ------
    StudyError
        If this machine has no such device.
    """
    torch.set_num_threads(threads or available_cores())
    # Torch's own default lets a GPU's convolutions round to 10 bits even where float32 is asked
    # for: evaluation would differ from the development EER of training. Training may change it.
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    if wanted != "auto":
        try:
            return torch.empty(0, device=wanted).device
        except (RuntimeError, AssertionError):
            raise StudyError(f"the device {wanted!r} is not available on this machine") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def available_cores() -> int:
    """Cores this process may use: OMP_NUM_THREADS if it is set, otherwise `usable_cores`."""
    return omp_num_threads() or usable_cores()


def omp_num_threads() -> int:
    """The environment's OMP_NUM_THREADS; 0 if it is not set, or is not a whole number."""
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdecimal() else 0
