"""The state of training: model, loss and optimizer, the step, and the training curve."""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.files.paths import project_root
from studylib.losses import LOSSES
from studylib.losses.schedules import Schedule, value_at
from studylib.models.embedder import Embedder, load_model
from studylib.training.distributed import synchronise_batch_norms
from studylib.training.settings import RunSettings, TrainSettings

MODULES = ("model", "criterion", "optimizer")
COMPILER = "inductor"


@dataclass
class Learner:
    """All that a training step changes, saved whole in a checkpoint."""

    model: Embedder
    criterion: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last row of the curve
    best_eer: float = float("inf")
    best: list[dict[str, Tensor]] = field(default_factory=list)  # weights of trunk and loss

    def keep_if_best(self, eer: float) -> None:
        """Keep a copy of the present weights if no development EER before was as low."""
        if eer < self.best_eer:
            weights = self.model.trunk.state_dict(), self.criterion.state_dict()
            self.best_eer, self.best = eer, [copy.deepcopy(each) for each in weights]

    def take_best(self) -> None:
        """Restore the best weights, if any are kept."""
        if self.best:
            self.model.trunk.load_state_dict(self.best[0])
            self.criterion.load_state_dict(self.best[1])

    def curve_row(self, settings: RunSettings, steps_per_epoch: int, steps: int) -> dict:
        """A row of curve.csv: mean loss since the row before, other numbers of the last step."""
        progress, losses, self.losses = (self.step - 1) / steps, self.losses, []
        row = {"crops": self.step * settings.train.batch_crops, "step": self.step}
        row |= {"epoch": self.step / steps_per_epoch, "loss": sum(losses) / len(losses)}
        rate = value_at(settings.train.learning_rate, progress)
        return row | {"learning_rate": rate} | scheduled(settings, progress)

    def progress_line(self, batch: int, steps: int) -> str:
        """A line of text: crops trained, last loss and development EER, speed."""
        row, crops, total = (self.curve or [{}])[-1], self.step * batch, steps * batch
        last = "".join(f"{name} {row[name]:.3f}, " for name in ("loss", "dev_eer") if name in row)
        speed = crops / self.seconds
        left = f"{speed:,.0f} crops/s, {(total - crops) / speed:.0f} s left"
        return f"{crops:,} of {total:,} crops, {last}{left}"

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and lists alone."""
        parts = vars(self).items()
        return {name: part.state_dict() if name in MODULES else part for name, part in parts}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        for name, part in state.items():
            if name in MODULES:
                getattr(self, name).load_state_dict(part)
            else:
                setattr(self, name, part)


def build_learner(
    settings: RunSettings, n_speakers: int, seed: int, device: torch.device
) -> Learner:
    """Fresh weights and optimizer, decided by the seed alone.

    The trunk is drawn before the loss: runs that differ in their loss start from the same trunk.
    `train.initial_weights` takes the place of what was drawn for the trunk.

    Raises
    ------
    StudyError
        The initial weights are missing, or are those of another trunk.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Embedder(settings.trunk.name, settings.trunk.parameters)
        numbers = {key: value_at(value, 0.0) for key, value in settings.loss.parameters.items()}
        criterion = LOSSES[settings.loss.name](model.embedding_dim, n_speakers, **numbers)
    if settings.train.initial_weights:
        _take_initial_weights(model, settings)
    parts = [name for name, _ in model.trunk.named_modules() if name]
    if wrong := set(settings.train.freeze) - set(parts):
        known = ", ".join(part for part in parts if "." not in part)
        raise StudyError(
            f"run {settings.name}: train.freeze names {min(wrong)}, but the parts of the trunk "
            f"{model.name} are {known}, and theirs"
        )
    model, criterion = model.to(device).train(), criterion.to(device).train()
    synchronise_batch_norms(model)
    prepare_model(model, settings.train)
    keys, parameters = settings.train, [*model.parameters(), *criterion.parameters()]
    shared = {"weight_decay": keys.weight_decay, "fused": device.type == "cuda" or None}
    if keys.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, momentum=keys.momentum, **shared)
    else:
        optimizer = torch.optim.Adam(parameters, **shared)
    return Learner(model, criterion, optimizer)


def prepare_model(model: nn.Module, settings: TrainSettings) -> None:
    """Give a model, in place, the layout and the kernels that it is to be trained with.

    Weights of 2-D convolutions lie in channels-last order, which each convolution then passes on:
    1.2 to 1.4 times as fast on a CPU.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    if settings.compile:
        model.compile(backend=COMPILER, dynamic=False)


def scheduled(settings: RunSettings, progress: float) -> dict[str, float]:
    """The numbers of the loss that change during a run, such as a margin."""
    numbers = settings.loss.parameters.items()
    return {name: value.at(progress) for name, value in numbers if isinstance(value, Schedule)}


def drop_gradients(model: Embedder, settings: TrainSettings, progress: float) -> None:
    """Drop the gradients of what is not trained now: the optimizer then leaves it as it is."""
    warming_up, frozen = progress < settings.loss_warmup, tuple(f"{p}." for p in settings.freeze)
    for name, parameter in model.trunk.named_parameters():
        if warming_up or name.startswith(frozen):
            parameter.grad = None


def is_due(times: int, step: int, steps: int) -> bool:
    """Whether this step is one of `times` steps spread evenly over the run."""
    return step * times // steps > (step - 1) * times // steps


def finite(losses: list[Tensor], settings: RunSettings, step: int, steps: int) -> list[float]:
    """The losses of the steps up to `step` as numbers; StudyError if one is not finite."""
    values = torch.stack(losses).tolist()
    if not math.isfinite(sum(values)):
        raise StudyError(
            f"run {settings.name}: the loss {settings.loss.name} is {sum(values)} by step {step:,} "
            f"of {steps:,}: expected a lower train.learning_rate"
        )
    return values


def _take_initial_weights(model: Embedder, settings: RunSettings) -> None:
    path = settings.train.initial_weights
    pretrained, _ = load_model(project_root() / path)
    try:
        model.trunk.load_state_dict(pretrained.trunk.state_dict())
    except RuntimeError:
        raise StudyError(
            f"run {settings.name}: train.initial_weights: {path} holds the trunk {pretrained.name} "
            f"with {pretrained.keywords}, but the run's is {model.name} with {model.keywords}"
        ) from None
