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
from studylib.training.acceleration import fused_optimizer, prepare_model
from studylib.training.optimizers import Adam, Sgd
from studylib.training.settings import RunSettings, TrainSettings


@dataclass
class Learner:
    """All that a training step changes; saved whole in a checkpoint."""

    model: Embedder
    criterion: nn.Module
    optimizer: Adam | Sgd
    step: int = 0
    seconds: float = 0.0
    curve: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last row of the curve
    best_eer: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        return {
            "trunk": self.model.trunk.state_dict(),
            "criterion": self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {
                "step": self.step,
                "seconds": self.seconds,
                "curve": self.curve,
                "losses": self.losses,
                "best_eer": self.best_eer,
                "best_weights": self.best_weights,
            },
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.trunk.load_state_dict(state["trunk"])
        self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, value in state["progress"].items():
            setattr(self, name, value)


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
) -> Adam | Sgd:
    decay, fused = settings.weight_decay, fused_optimizer(settings, device)
    if settings.optimizer == "sgd":
        return Sgd(parameters, momentum=settings.momentum, weight_decay=decay, fused=fused)
    return Adam(parameters, weight_decay=decay, fused=fused)
