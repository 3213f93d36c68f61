"""Values that change during training: learning rates, margins, hard-negative fractions.

A schedule is a function of progress, the share of the run's training crops already seen, so that
its meaning does not depend on the batch size, on the number of GPUs or on the length of an epoch.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A value going from `initial` to `final` while progress goes from `begins` to `ends`.

    Before `begins` it is `initial`, after `ends` it is `final`. In between the shape decides:

    - ``step``: `initial` until `begins`, then `final` (a curriculum; `ends` is not used);
    - ``linear``, ``cosine``, ``exponential``: the curve of that name;
    - ``staircase``: the exponential, in `steps` equal steps (paper B multiplies its learning rate
      by 0.95 every 10 of 500 epochs: 50 steps).
    """

    # In a parameter file, unknown keys and numbers that are not finite are errors.
    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    initial: float
    final: float
    begins: float = 0.0
    ends: float = 1.0
    shape: Literal["step", "linear", "cosine", "exponential", "staircase"] = "linear"
    steps: int = 50

    def __post_init__(self) -> None:
        if not 0.0 <= self.begins <= self.ends <= 1.0:
            raise ValueError("expected 0 <= begins <= ends <= 1 (shares of the training crops)")
        if self.shape in ("exponential", "staircase") and self.initial * self.final <= 0:
            raise ValueError(f"a {self.shape} schedule needs initial and final of one sign, not 0")
        if self.steps < 1:
            raise ValueError("steps must be at least 1")

    def at(self, progress: float) -> float:
        """The value at `progress`, a number in [0, 1]."""
        if self.shape == "step":
            return self.final if progress >= self.begins else self.initial
        length = self.ends - self.begins
        share = min(max((progress - self.begins) / length, 0.0), 1.0) if length else 1.0
        if self.shape == "linear":
            return self.initial + share * (self.final - self.initial)
        if self.shape == "cosine":
            share = (1.0 - math.cos(math.pi * share)) / 2.0
            return self.initial + share * (self.final - self.initial)
        if self.shape == "staircase":
            share = math.floor(share * self.steps + 1e-9) / self.steps
        return self.initial * (self.final / self.initial) ** share


def value_at(value: float | Schedule, progress: float) -> float:
    """The number itself, or the schedule's value at `progress`."""
    return value.at(progress) if isinstance(value, Schedule) else value
