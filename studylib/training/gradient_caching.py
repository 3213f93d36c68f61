"""Batches larger than memory, exactly: gradient caching (Gao, Zhang, Han and Callan 2021).

A loss needs all embeddings of a batch at once, but a trunk does not need all crops. So the batch is
embedded twice, in chunks: first without keeping what backpropagation needs, which gives the loss
and its gradient on every embedding; then chunk by chunk with it, each chunk sending its part of
that gradient into the weights. What memory holds of the trunk depends on the chunk alone; two
forward passes in place of one are the price.

Exact it is where an embedding depends on its own crop alone. Batch normalisation in training takes
its statistics from whatever is embedded together: with chunks, from the chunk and not from the
batch, in both passes the same. A run with chunks is therefore not the run without, but one whose
normalisation sees smaller batches, as if one trained on chunks; with frozen statistics both give
the same gradients up to rounding. The running statistics move once a step, by the mean of what the
chunks would move them. Trunks must draw no random numbers: the two passes would differ.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from studylib.training.distributed import gather, without_sum


def in_chunks(total: int, at_once: int) -> list[range]:
    """`total` crops in as few chunks of at most `at_once` as there can be, equal to within one."""
    n = -(-total // at_once) if at_once else 1
    return [range(total * i // n, total * (i + 1) // n) for i in range(n)]


def backward_in_chunks(
    model: nn.Module,
    embed: Callable[[Tensor], Tensor],
    chunks: Sequence[Tensor],
    shares: Sequence[float],
    rows: Tensor,
    total: int,
    loss_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """The loss of a batch, its gradients left in the parameters of trunk and loss.

    Parameters
    ----------
    model : Module
        What `embed` runs.
    embed : callable
        Crops (C, S) to embeddings (C, D).
    chunks : sequence of (C, S) tensors
        The crops of this process.
    shares : sequence of float
        The share of the batch that all processes embed with each chunk.
    rows : (b,) int64
        The places of this process's crops in the batch.
    total : int
        B, the crops of the batch.
    loss_of : callable
        Embeddings (B, D) to a scalar.

    Returns
    -------
    scalar tensor, without graph
    """
    with torch.no_grad(), _running_statistics_kept(model):
        embeddings = [embed(chunk) for chunk in chunks]
    whole = gather(torch.cat(embeddings), rows, total).requires_grad_()
    loss = loss_of(whole)
    loss.backward()
    gradients = whole.grad[rows].to(embeddings[0].dtype).split([len(chunk) for chunk in chunks])
    running = _RunningStatistics(model)
    for chunk, gradient, share in zip(chunks, gradients, shares, strict=True):
        with nullcontext() if chunk is chunks[-1] else without_sum(model):
            embed(chunk).backward(gradient)
        running.take(share)
    running.move(len(chunks))
    return loss.detach()


def _training_norms(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]


@contextmanager
def _running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch normalisation as in training, without moving its running statistics."""
    norms = _training_norms(model)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


class _RunningStatistics:
    """Moves the running statistics once for all chunks, by the mean of their moves."""

    def __init__(self, model: nn.Module) -> None:
        norms = _training_norms(model)
        self.running = [b for norm in norms for b in (norm.running_mean, norm.running_var)]
        self.counts = [norm.num_batches_tracked for norm in norms]
        self.before = [buffer.clone() for buffer in self.running]
        self.after = [torch.zeros_like(buffer) for buffer in self.running]

    def take(self, share: float) -> None:
        """Note where a chunk moved them, and put them back for the next."""
        for running, before, after in zip(self.running, self.before, self.after, strict=True):
            after.add_(running, alpha=share)
            running.copy_(before)

    def move(self, chunks: int) -> None:
        for running, after in zip(self.running, self.after, strict=True):
            running.copy_(after)
        for count in self.counts:
            count -= chunks - 1
