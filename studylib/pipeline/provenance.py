"""Where a result comes from: the versions and the machine that made it."""

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Any

REPORTED = ("torch", "torchaudio", "numpy", "scipy", "pandas", "studylib")


def processor_name() -> str:
    """The processor's own name, where the system has it."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """The machine, and the versions of what decides numbers."""
    import torch

    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "processor": processor_name(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in REPORTED},
    }
