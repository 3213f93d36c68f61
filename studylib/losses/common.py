"""What the losses share: checked batches, full precision, cosines, a number kept positive.

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


def require(condition: bool, sentence: str) -> None:
    """Raise a `StudyError` with this sentence unless the condition holds."""
    if not condition:
        raise StudyError(sentence)


def loss_forward(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a loss's forward: check the batch, switch autocast off, compute in float32 or wider.

    Half precision has too few digits for a softmax over cosines multiplied by 30 or 60, so a loss
    computes in float32 whatever the trunk's precision is (float64 stays float64, for tests).

    Raises
    ------
    StudyError
        If the batch does not fit the loss (see `check_batch`).
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

    The values of the labels are looked at only on the CPU: on an accelerator that would make the
    host wait for the device at every step.

    Raises
    ------
    StudyError
        If the shapes are not (N, M, D) and (N,), D is not the loss's, M is below
        `min_utterances_per_speaker`, a metric loss gets a single speaker or a speaker twice, or a
        label lies outside 0 .. C - 1.
    """
    name = type(loss).__name__
    require(
        embeddings.dim() == 3 and embeddings.shape[0] > 0 and embeddings.is_floating_point(),
        f"{name} expects real embeddings of shape (speakers, utterances, dimensions), "
        f"got {embeddings.dtype} of shape {tuple(embeddings.shape)}.",
    )
    n, m, d = embeddings.shape
    require(
        labels.shape == (n,) and labels.dtype == torch.int64,
        f"{name} expects one int64 label for each of the {n} speakers of the batch, "
        f"got {labels.dtype} of shape {tuple(labels.shape)}.",
    )
    require(
        d == loss.embedding_dim,
        f"{name} was built for embeddings of {loss.embedding_dim} dimensions, got {d}.",
    )
    fewest = loss.min_utterances_per_speaker
    require(
        m >= fewest,
        f"{name} needs at least {fewest} utterances of each speaker in a batch, got {m}.",
    )
    metric = fewest > 1
    require(not metric or n > 1, f"{name} compares speakers: a batch needs at least 2, got 1.")
    if labels.device.type == "cpu":
        lowest, highest = int(labels.min()), int(labels.max())
        require(
            lowest >= 0 and highest < loss.n_speakers,
            f"{name} knows the speakers 0 to {loss.n_speakers - 1}, "
            f"got labels from {lowest} to {highest}.",
        )
        require(
            not metric or labels.unique().numel() == n,
            f"{name} takes every group of a batch for another speaker: a label came twice.",
        )


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


def inverse_softplus(value: float) -> Tensor:
    """Scalar tensor whose `positive` is this value, which must exceed `SMALLEST_FACTOR`."""
    value = torch.tensor(value - SMALLEST_FACTOR, dtype=torch.float64)
    return (value + torch.log(-torch.expm1(-value))).float()


def positive(raw: Tensor) -> Tensor:
    """A positive number from any real one: softplus(raw) + 1e-6.

    Around the usual start of 10 softplus is the identity to within 5e-5, so learning rates keep the
    meaning they have for a number learned directly.
    """
    return F.softplus(raw) + SMALLEST_FACTOR
