"""The processor cores of this machine."""

import os


def usable_cores() -> int:
    """Cores that the system lets this process use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
