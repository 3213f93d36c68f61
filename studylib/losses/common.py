"""What the losses share: checked numbers and batches, full precision, cosines, a positive factor.

Plain functions, so that each loss file still reads as its equation. Letters, here and in every
loss: N speakers in the batch, M utterances of each, D dimensions, C training speakers.
"""

import math
from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.errors import StudyError

# An embedding shorter than this has no direction. It lies far below any length that training meets.
SHORTEST = 1e-6
# The smallest value that a learned factor kept positive can take.
SMALLEST_FACTOR = 1e-6


def number(
    key: str,
    value: float,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
    whole: bool = False,
) -> float:
    """The value itself, if it is a finite number within its bounds.

    Raises
    ------
    StudyError
        Otherwise: a sentence that begins with `key` ("loss: keyword").
    """
    known = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not (known and above < value < below and least <= value <= most):
        bounds = {"above": above, "at least": least, "below": below, "at most": most}
        given = [f"{word} {bound:.6g}" for word, bound in bounds.items() if math.isfinite(bound)]
        words = " ".join(["a whole" if whole else "a finite", "number", " and ".join(given)])
        raise StudyError(f"{key} is {words.strip()}, got {value!r}")
    return value


def loss_forward(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a loss's forward: check the batch, switch autocast off, compute in float32 or wider.

    Half precision has too few digits for a softmax over cosines multiplied by 30 or 60, so a loss
    computes in float32 whatever the trunk's precision is (float64 stays float64, for tests).
    """

    @wraps(forward)
    def wrapped(self: nn.Module, embeddings: Tensor, labels: Tensor) -> Tensor:
        check_batch(self, embeddings, labels)
        if embeddings.dtype in (torch.bfloat16, torch.float16):
            embeddings = embeddings.float()
        with torch.autocast(embeddings.device.type, enabled=False):
            return forward(self, embeddings, labels)

    return wrapped


def check_batch(loss: nn.Module, embeddings: Tensor, labels: Tensor) -> None:
    """Refuse a batch that the loss is not defined for.

    The values of the labels are checked only on the CPU: on an accelerator that would make the
    host wait for the device at every step.

    Raises
    ------
    ValueError
        If the shapes are not (N, M, D) and (N,), D is not the loss's, M is below
        `min_utterances_per_speaker`, a metric loss gets a single speaker or a speaker twice, or a
        label lies outside 0 .. C - 1.
    """
    given = (
        f"{type(loss).__name__}: embeddings {tuple(embeddings.shape)}, labels {tuple(labels.shape)}"
    )
    fewest, d = loss.min_utterances_per_speaker, loss.embedding_dim
    metric = fewest > 1
    if embeddings.shape[2:] != (d,) or labels.shape != embeddings.shape[:1]:
        raise ValueError(f"{given}: expected (N, M, {d}) and (N,)")
    if embeddings.shape[1] < fewest or len(labels) < (2 if metric else 1):
        raise ValueError(f"{given}: expected at least {fewest} utterances of 2 speakers")
    if labels.device.type == "cpu":
        if labels.min() < 0 or labels.max() >= loss.n_speakers:
            raise ValueError(f"{given}: expected labels from 0 to {loss.n_speakers - 1}")
        if metric and labels.unique().numel() < len(labels):
            raise ValueError(f"{given}: expected every group to be of another speaker")


def flatten(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Turn (N, M, D) and (N,) into (N * M, D) and (N * M,): utterances, each with its label."""
    return embeddings.flatten(0, 1), labels.repeat_interleave(embeddings.shape[1])


def normalise(x: Tensor) -> Tensor:
    """Scale vectors (..., D) to length 1.

    A vector of length zero has no direction: it stays zero, its cosine with anything is 0, and it
    gets no gradient (dividing by a tiny constant instead would make the gradient huge).
    """
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return torch.where(length > SHORTEST, x / length.clamp_min(SHORTEST), 0.0)


def cosine_matrix(x: Tensor, y: Tensor) -> Tensor:
    """Cosine of each row of x (..., A, D) with each row of y (B, D): (..., A, B)."""
    return normalise(x) @ normalise(y).T


def add_angle(cosines: Tensor, margin: float) -> Tensor:
    """cos(theta + margin) from cos(theta), falling over the whole of 0 <= theta <= pi.

    Expanded as cos cos - sin sin, because arccos has no finite derivative where theta is 0 or pi;
    the sine has a floor of 1e-12 for the same reason. Past theta + margin = pi, where the cosine
    rises again, cos(theta) - margin * sin(margin) takes over and goes on falling.

    Parameters
    ----------
    cosines : Tensor
        cos(theta), any shape; rounding may have carried them a little beyond -1 or 1.
    margin : float
        Radians, 0 <= margin < pi / 2.
    """
    sines = ((1 - cosines) * (1 + cosines)).clamp_min(1e-24).sqrt()
    turned = cosines * math.cos(margin) - sines * math.sin(margin)
    beyond_pi = cosines - margin * math.sin(margin)
    return torch.where(cosines > -math.cos(margin), turned, beyond_pi)


def learned_factor(key: str, start: float) -> nn.Parameter:
    """The parameter `raw` for which `positive(raw)` is this number, above `SMALLEST_FACTOR`."""
    value = number(key, start, above=SMALLEST_FACTOR) - SMALLEST_FACTOR
    return nn.Parameter(torch.tensor(value + math.log(-math.expm1(-value))))


def positive(raw: Tensor) -> Tensor:
    """A positive number from any real one: softplus(raw) + 1e-6.

    Around the usual start of 10 softplus is the identity to within 5e-5, so learning rates keep the
    meaning they have for a number learned directly.
    """
    return F.softplus(raw) + SMALLEST_FACTOR
