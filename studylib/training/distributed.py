"""Many processes that train one model, started by `torchrun --nproc-per-node K`.

Each process draws the same batch from the run's seed and embeds its share of the crops. The
embeddings are gathered, so that every process computes the loss of the whole batch; it sends the
gradient of its own embeddings back through the trunk, and the trunk's gradients are added up over
the processes (not averaged: each holds a part of one sum). Batch normalisation takes its statistics
over all processes. So K processes do what one does, and no setting means anything else for them.

Without torchrun, everything here is what it would be for a single process: nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from studylib.errors import StudyError
from studylib.models.devices import omp_num_threads, usable_cores

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)
# The others wait this long for one that measures, or that waits for another training of the run to
# end. One that died is noticed at once.
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
        The setting: 0 shares the cores among the processes, unless OMP_NUM_THREADS says how many
        threads each has.

    Yields
    ------
    torch.device
        This process's.

    Raises
    ------
    StudyError
        Fewer GPUs than processes; or another process ended before the run did.
    """
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield device
        return
    local, processes = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if device.type == "cuda":
        if processes > torch.cuda.device_count():
            raise StudyError(
                f"torchrun started {processes} processes on a machine with "
                f"{torch.cuda.device_count()} GPU(s): expected at most one process for each, "
                f"or train.device: cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")  # other accelerators do not talk to each other
        if not threads:
            torch.set_num_threads(threads_each(processes))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    try:
        yield device
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise StudyError(
            f"process {rank()} stops because another of the {world_size()} processes has ended: "
            f"its own message says why; the same command goes on from the last checkpoint"
        ) from None
    dist.destroy_process_group()


def threads_each(processes: int) -> int:
    """CPU threads of one of several processes: OMP_NUM_THREADS, or a share of the cores."""
    threads = omp_num_threads()
    # torchrun sets it to 1 where nobody has set it
    return threads if threads > 1 else max(1, usable_cores() // processes)


def from_first_process(value: Any) -> Any:
    """Process 0's value, in all processes."""
    if world_size() == 1:
        return value
    values = [value]
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
    GPU's rounding may depend on the order in which its threads finish, and they must not drift
    apart.
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


def synchronise_batch_norms(model: nn.Module, device: torch.device) -> None:
    """Let the model's batch normalisations, in place, take the statistics of all processes."""
    if world_size() == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for module in list(model.modules()):  # torch's own knows only GPUs
        for name, child in module.named_children():
            if isinstance(child, BATCH_NORMS):
                setattr(module, name, SynchronisedBatchNorm(child))


class SynchronisedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation of any shape with the statistics of all processes' batches, on a CPU.

    Parameters
    ----------
    plain : BatchNorm1d or BatchNorm2d
        Its weights and running statistics are taken over, not copied.
    """

    def __init__(self, plain: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum)
        self.weight, self.bias = plain.weight, plain.bias
        self.running_mean, self.running_var = plain.running_mean, plain.running_var
        self.num_batches_tracked = plain.num_batches_tracked
        self.train(plain.training)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, ...) -> the same shape."""
        if not self.training:
            running = self.running_mean, self.running_var
            return F.batch_norm(x, *running, self.weight, self.bias, eps=self.eps)
        wide, dims = _wide(x), [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = wide.new_tensor(x.numel() // x.shape[1])
        dist.all_reduce(count)
        mean = _AddUp.apply(wide.sum(dims)) / count
        centred = wide - mean.view(shape)
        variance = _AddUp.apply(centred.square().sum(dims)) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
            self.num_batches_tracked += 1
        factor = self.weight * (variance + self.eps).rsqrt()
        return (centred * factor.view(shape) + self.bias.view(shape)).to(x.dtype)


class _AddUp(torch.autograd.Function):
    """The sum over the processes; backwards, the sum of their gradients."""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
