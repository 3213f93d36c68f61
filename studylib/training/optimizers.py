"""Adam and SGD: torch's own kernels, without the classes around them.

`torch.optim.Optimizer` imports torch's compiler at its first step, 4 to 6 s of processor time in
every training process, which for a small run is as long as a third of its training. The functions
underneath need no compiler; what is left to do is to keep their state.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd


class Adam:
    """Adam (Kingma and Ba 2015, Algorithm 1), with beta 0.9 and 0.999, epsilon 1e-8.

    Parameters
    ----------
    parameters : iterable of Parameter
    weight_decay : float
        Added to the gradient times the weight, as in `torch.optim.Adam`.
    fused : bool or None
        One kernel for all weights; None for torch's own choice.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, weight_decay: float, fused: bool | None
    ) -> None:
        self.parameters, self.weight_decay, self.fused = list(parameters), weight_decay, fused
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        # The fused kernel counts where the weights are; the others on the host, which waits less.
        self.steps = [
            torch.tensor(0.0, device=p.device if fused else "cpu") for p in self.parameters
        ]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the weights that have a gradient."""
        moved = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        adam(
            [self.parameters[i] for i in moved],
            [self.parameters[i].grad for i in moved],
            [self.means[i] for i in moved],
            [self.squares[i] for i in moved],
            [],
            [self.steps[i] for i in moved],
            fused=self.fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        return {"means": self.means, "squares": self.squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        _copy([*self.means, *self.squares], [*state["means"], *state["squares"]])
        _copy(self.steps, state["steps"])


class Sgd:
    """Stochastic gradient descent, with momentum as in Sutskever et al. (2013), eq. 1-2.

    Parameters
    ----------
    parameters : iterable of Parameter
    momentum, weight_decay : float
        As in `torch.optim.SGD`: the first step's velocity is its gradient.
    fused : bool or None
        One kernel for all weights; None for torch's own choice.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        momentum: float,
        weight_decay: float,
        fused: bool | None,
    ) -> None:
        self.parameters, self.fused = list(parameters), fused
        self.momentum, self.weight_decay = momentum, weight_decay
        self.velocities: list[Tensor | None] = [None] * len(self.parameters)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the weights that have a gradient."""
        moved = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        velocities = [self.velocities[i] for i in moved]
        sgd(
            [self.parameters[i] for i in moved],
            [self.parameters[i].grad for i in moved],
            velocities,
            fused=self.fused,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )
        for i, velocity in zip(moved, velocities, strict=True):
            self.velocities[i] = velocity

    def state_dict(self) -> dict[str, Any]:
        return {"velocities": self.velocities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.velocities = [
            None if velocity is None else velocity.to(parameter.device)
            for velocity, parameter in zip(state["velocities"], self.parameters, strict=True)
        ]


def zero_grad(parameters: Iterable[nn.Parameter]) -> None:
    """Forget the gradients of the last step."""
    for parameter in parameters:
        parameter.grad = None


@torch.no_grad()
def _copy(own: list[Tensor], saved: list[Tensor]) -> None:
    for tensor, value in zip(own, saved, strict=True):
        tensor.copy_(value)
