"""The way of a run: its curve, what it reports, and when something is due."""

import math

import torch
from torch import Tensor

from studylib.errors import StudyError
from studylib.losses.schedules import Schedule, value_at
from studylib.training.learner import Learner
from studylib.training.settings import RunSettings


def is_due(times: int, step: int, steps: int) -> bool:
    """Whether this step is one of `times` steps spread evenly over the run."""
    return times > 0 and step * times // steps > (step - 1) * times // steps


def scheduled(settings: RunSettings, progress: float) -> dict[str, float]:
    """The numbers of the loss that change on the way, such as a margin."""
    numbers = settings.loss.parameters.items()
    return {name: value.at(progress) for name, value in numbers if isinstance(value, Schedule)}


def finite(losses: list[Tensor], settings: RunSettings, step: int, steps: int) -> list[float]:
    """The losses of the steps up to `step` as numbers; StudyError at the first not finite."""
    values = torch.stack(losses).tolist()
    for before, value in enumerate(values, step - len(values)):
        if not math.isfinite(value):
            rate = value_at(settings.train.learning_rate, before / steps)
            raise StudyError(
                f"run {settings.name}: the loss {settings.loss.name} is {value} at step "
                f"{before + 1:,} of {steps:,}, learning rate {rate:.3g}; the last good checkpoint, "
                "if one was due before, is kept"
            )
    return values


def curve_row(
    learner: Learner, settings: RunSettings, batch: int, steps_per_epoch: int, steps: int
) -> dict[str, float]:
    """A row of curve.csv; its loss is the mean since the row before."""
    progress, losses, learner.losses = learner.step / steps, learner.losses, []
    return {
        "crops": learner.step * batch,
        "step": learner.step,
        "epoch": learner.step / steps_per_epoch,
        "loss": sum(losses) / len(losses),
        "learning_rate": value_at(settings.train.learning_rate, progress),
    } | scheduled(settings, progress)


def progress_line(learner: Learner, batch: int, steps: int) -> str:
    """How far the run has come, its last loss and development EER, and its speed."""
    row = learner.curve[-1] if learner.curve else {}
    loss = f", loss {row['loss']:.3f}" if row else ""
    dev = f", dev EER {100 * row['dev_eer']:.1f} %" if "dev_eer" in row else ""
    speed = learner.step * batch / learner.seconds
    left = (steps - learner.step) * batch / speed
    return (
        f"{learner.step * batch:,} of {steps * batch:,} crops{loss}{dev}, "
        f"{speed:,.0f} crops/s, {left:.0f} s left"
    )
