"""Batches larger than memory, exactly: gradient caching (Gao, Zhang, Han and Callan 2021).

A loss needs all embeddings of a batch at once, but a trunk does not need all crops. So the batch is
embedded twice, in chunks: first without keeping what backpropagation needs, which gives the loss
and its gradient on every embedding; then chunk by chunk with it, each chunk sending its part of
that gradient into the weights. The trunk's memory depends on the chunk alone; the
cost is a second forward pass.

It is exact where an embedding depends on its own crop alone. Batch normalisation in training takes
its statistics from whatever is embedded together: with chunks, from the chunk and not from the
batch, in both passes the same. A run with chunks is therefore not the run without: its
normalisation has the statistics of smaller batches; with frozen statistics both give the same
gradients up to rounding. The running statistics are updated once a step, by the mean of the chunks'
updates. Trunks must draw no random numbers: the two passes would differ.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.training.distributed import gather, rank, world_size
from studylib.training.settings import TrainSettings

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Share:
    """The part of each batch that this process embeds.

    Attributes
    ----------
    total : int
        B, the crops of the batch.
    places : (b,) int64
        The places of this process's crops in the batch, on the device.
    sizes : list of int
        This process's crops in each chunk; b in all.
    weights : list of float
        The share of the batch that all processes embed with each chunk; 1 in all.
    """

    total: int
    places: Tensor
    sizes: list[int]
    weights: list[float]


def share_out(settings: TrainSettings, device: torch.device) -> Share:
    """Cut the batch into chunks, and each chunk into one part for each process.

    Raises
    ------
    StudyError
        If a chunk has too few crops.
    """
    total, r, k = settings.batch_crops, rank(), world_size()
    chunks = in_chunks(total, settings.chunk_crops)
    smallest, least = min(map(len, chunks)), max(2, k)
    if smallest < least:
        raise StudyError(
            f"train.chunk_crops is {settings.chunk_crops}: a chunk has {smallest} of the batch's "
            f"{total} crops, but needs {least}: two for batch normalisation, one for each process"
        )
    parts = [chunk[len(chunk) * r // k : len(chunk) * (r + 1) // k] for chunk in chunks]
    places = torch.tensor([place for part in parts for place in part])
    weights = [len(chunk) / total for chunk in chunks]
    return Share(total, places.to(device), [len(part) for part in parts], weights)


def in_chunks(total: int, at_once: int) -> list[range]:
    """`total` crops in as few chunks of at most `at_once` as there can be, equal to within one."""
    n = -(-total // at_once) if at_once else 1
    return [range(total * i // n, total * (i + 1) // n) for i in range(n)]


def backward_in_chunks(
    model: nn.Module,
    embed: Callable[[Tensor], Tensor],
    samples: Tensor,
    share: Share,
    loss_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """The loss of a batch, its gradients left in the parameters of trunk and loss.

    Parameters
    ----------
    model : Module
        What `embed` runs.
    embed : callable
        Crops (C, S) to embeddings (C, D).
    samples : (b, S)
        The crops of this process.
    share : Share
    loss_of : callable
        Embeddings (B, D) to a scalar.

    Returns
    -------
    scalar tensor, without graph
    """
    chunks = samples.split(share.sizes)
    norms = [m for m in model.modules() if isinstance(m, BATCH_NORMS) and m.training]
    running = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    before = [buffer.clone() for buffer in running]
    after = [torch.zeros_like(buffer) for buffer in running]

    with torch.no_grad():
        embeddings = [embed(chunk) for chunk in chunks]
    _copy(before, running)
    whole = gather(torch.cat(embeddings), share.places, share.total).requires_grad_()
    loss = loss_of(whole)
    loss.backward()

    gradients = whole.grad[share.places].to(embeddings[0].dtype).split(share.sizes)
    for chunk, gradient, weight in zip(chunks, gradients, share.weights, strict=True):
        embed(chunk).backward(gradient)
        for buffer, mean in zip(running, after, strict=True):
            mean.add_(buffer, alpha=weight)
        _copy(before, running)
    _copy(after, running)
    return loss.detach()


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
