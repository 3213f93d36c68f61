"""What a run learns with: model, loss and optimizer, and how far they have come."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.files.paths import project_root
from studylib.losses import LOSSES
from studylib.losses.schedules import value_at
from studylib.models.embedder import Embedder, load_model
from studylib.training.acceleration import prepare_model
from studylib.training.distributed import synchronise_batch_norms
from studylib.training.settings import RunSettings, TrainSettings

MODULES = ("model", "criterion", "optimizer")
PROGRESS = ("step", "seconds", "curve", "losses", "best_eer", "best_weights")


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
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def keep_if_best(self, eer: float) -> None:
        """Keep a copy of the present weights if no development EER before was as low."""
        if eer < self.best_eer:
            self.best_eer = eer
            weights = self.model.trunk.state_dict()
            self.best_weights = {name: value.clone() for name, value in weights.items()}

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and lists alone."""
        modules = {name: getattr(self, name).state_dict() for name in MODULES}
        return modules | {name: getattr(self, name) for name in PROGRESS}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        for name in MODULES:
            getattr(self, name).load_state_dict(state[name])
        for name in PROGRESS:
            setattr(self, name, state[name])


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
    model, criterion = model.to(device).train(), criterion.to(device).train()
    synchronise_batch_norms(model, device)
    prepare_model(model, settings.train)
    parameters = [*model.parameters(), *criterion.parameters()]
    return Learner(model, criterion, _optimizer(settings.train, parameters, device))


def _take_initial_weights(model: Embedder, settings: RunSettings) -> None:
    path = settings.train.initial_weights
    pretrained, _ = load_model(project_root() / path)
    try:
        model.trunk.load_state_dict(pretrained.trunk.state_dict())
    except RuntimeError:
        ours = settings.trunk
        raise StudyError(
            f"run {settings.name}: train.initial_weights: {path} holds the trunk {pretrained.name} "
            f"with {pretrained.keywords}, but the run's is {ours.name} with {ours.parameters}"
        ) from None


def _optimizer(
    settings: TrainSettings, parameters: list[nn.Parameter], device: torch.device
) -> torch.optim.Optimizer:
    """Adam with beta 0.9 and 0.999 and epsilon 1e-8, or SGD; each step sets the learning rate."""
    shared = {"weight_decay": settings.weight_decay, "fused": device.type == "cuda" or None}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=settings.momentum, **shared)
    return torch.optim.Adam(parameters, **shared)
