"""Many processes that train one model, started by `torchrun --nproc-per-node K`.

Each process draws the same batch from the run's seed and embeds its share of the crops. The
embeddings are gathered, so that every process computes the loss of the whole batch; it sends the
gradient of its own embeddings back through the trunk, and the trunk's gradients are added up over
the processes (not averaged: each holds a part of one sum). Batch normalisation takes its statistics
over all processes. So K processes compute what one does, and every setting keeps its meaning.

Without torchrun there is one process, and nothing here has an effect.
"""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce  # with gradient

from studylib.models.devices import usable_cores

# The others wait this long for one that measures, or that waits for another training of the run to
# end. If one dies, the others fail at once.
LONGEST_WAIT = timedelta(days=7)


def rank() -> int:
    """This process's number, from 0; process 0 writes and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device, threads: int) -> Iterator[torch.device]:
    """Join the processes that torchrun started; alone without it.

    Parameters
    ----------
    device : torch.device
        Of a run with one process. If that is a GPU, each process gets one of its own.
    threads : int
        The setting: 0 shares the cores among the processes of a machine.

    Yields
    ------
    torch.device
        This process's.
    """
    if not dist.is_torchelastic_launched():
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")  # torch has no communication between other accelerators
        if not threads:
            torch.set_num_threads(max(1, usable_cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    yield device
    dist.destroy_process_group()


def from_first_process(value: Any) -> Any:
    """Process 0's value, in all processes."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values)
    return values[0]


def gather(own: Tensor, places: Tensor, total: int) -> Tensor:
    """Embeddings of the whole batch, in its order and with gradient.

    Parameters
    ----------
    own : (b, D)
        Embeddings of this process's crops.
    places : (b,) int64
        Their places in the batch.
    total : int
        B.

    Returns
    -------
    (B, D), float32 at least; with one process `own` itself.
    """
    if world_size() == 1:
        return own
    alone = _wide(own).new_zeros(total, own.shape[1]).index_copy(0, places, _wide(own))
    whole = alone.detach().clone()
    dist.all_reduce(whole)  # adds zeros: exact, and the same bits in every process
    return alone + (whole - alone.detach())  # exact too: one of the two is zero


def add_up_gradients(model: nn.Module, criterion: nn.Module) -> None:
    """The model's gradients become their sum over the processes; the loss's are process 0's.

    Each process has sent the gradient of its own embeddings through the model: a part of one sum.
    The loss's own parameters get the same gradients everywhere, from the same embeddings; but a
    GPU's rounding may depend on the order in which its threads finish, and processes must not
    diverge.
    """
    if world_size() == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view(gradient.shape))
    for parameter in criterion.parameters():
        if parameter.grad is not None:
            dist.broadcast(parameter.grad, 0)


def synchronise_batch_norms(model: nn.Module) -> None:
    """Let the model's batch normalisations, in place, take the statistics of all processes."""
    if world_size() == 1:
        return
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for norm in model.modules():
        if isinstance(norm, nn.SyncBatchNorm) and norm.weight.device.type == "cpu":
            norm.forward = functools.partial(_normalise, norm)  # torch's own supports GPUs only


def _normalise(norm: nn.SyncBatchNorm, x: Tensor) -> Tensor:
    """(B, C) or (B, C, ...) -> the same shape."""
    if not norm.training:
        return nn.SyncBatchNorm.forward(norm, x)
    wide, dims = _wide(x), [0, *range(2, x.dim())]
    shape = [1, -1] + [1] * (x.dim() - 2)
    count = wide.new_tensor(x.numel() // x.shape[1])
    dist.all_reduce(count)
    mean = all_reduce(wide.sum(dims)) / count
    centred = wide - mean.view(shape)
    variance = all_reduce(centred.square().sum(dims)) / count
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        norm.num_batches_tracked += 1
    factor = norm.weight * (variance + norm.eps).rsqrt()
    return (centred * factor.view(shape) + norm.bias.view(shape)).to(x.dtype)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
