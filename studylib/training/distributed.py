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
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from studylib.errors import StudyError
from studylib.models.devices import omp_num_threads

# The others wait this long for one that measures or writes. One that died is noticed at once.
LONGEST_WAIT = timedelta(hours=2)


def rank() -> int:
    """This process's number, from 0; process 0 writes and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def process_group(device: torch.device, threads: int, cores: int) -> Iterator[torch.device]:
    """Join the processes that torchrun started; alone without it.

    Parameters
    ----------
    device : torch.device
        Of a run with one process. If that is a GPU, each process gets one of its own.
    threads : int
        The setting: 0 shares the cores among the processes, unless OMP_NUM_THREADS says how many
        threads each has.
    cores : int
        That the processes of this machine may use together.

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
            torch.set_num_threads(_threads_each(processes, cores))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=LONGEST_WAIT)
    try:
        yield device
    except RuntimeError as error:
        if not _tells_of_a_lost_process(error):
            raise
        raise StudyError(
            f"process {rank()} stops because another of the {world_size()} processes has ended: "
            f"its own message says why; the same command goes on from the last checkpoint"
        ) from None
    dist.destroy_process_group()


def _threads_each(processes: int, cores: int) -> int:
    threads = omp_num_threads()
    # torchrun sets it to 1 where nobody has set it
    return threads if threads > 1 else max(1, cores // processes)


def _tells_of_a_lost_process(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def require_agreement(step: int, device: torch.device) -> None:
    """Refuse to train if the processes would start from different steps."""
    if world_size() == 1:
        return
    extremes = torch.tensor([step, -step], device=device)
    dist.all_reduce(extremes, dist.ReduceOp.MIN)
    first, last = extremes[0].item(), -extremes[1].item()
    if first != last:
        raise StudyError(
            f"the processes found different checkpoints, of steps {first:,} and {last:,}: "
            f"expected one project folder that all of them read"
        )


def shared_out(crops: range) -> range:
    """This process's part of crops that all processes embed together."""
    n, r, k = len(crops), rank(), world_size()
    return crops[n * r // k : n * (r + 1) // k]


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model as K processes train it together; with one process the model itself.

    Its batch normalisation is replaced in place. Torch's own synchronised one knows only GPUs, and
    makes the host wait for them in every layer.
    """
    if world_size() == 1:
        return model
    _synchronise_batch_norm(model)
    wrapped = DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        broadcast_buffers=False,  # equal already
        gradient_as_bucket_view=True,
    )
    wrapped.register_comm_hook(None, _sum)
    return wrapped


def _sum(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """The sum of a bucket's gradients over the processes, where the default is their mean."""
    work = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda future: future.value()[0])


def without_sum(model: nn.Module) -> AbstractContextManager:
    """While it lasts, gradients add up in each process alone."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


class _Gather(torch.autograd.Function):
    """Rows of all processes; backwards, each process keeps the gradient of its own."""

    @staticmethod
    def forward(ctx, own: Tensor, rows: Tensor, total: int) -> Tensor:
        ctx.save_for_backward(rows)
        whole = own.new_zeros(total, own.shape[1])
        whole[rows] = own
        dist.all_reduce(whole)  # adds zeros: exact, and the same bits in every process
        return whole

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return gradient[rows], None, None


def gather(own: Tensor, rows: Tensor, total: int) -> Tensor:
    """Embeddings of the whole batch, in its order and with gradient.

    Parameters
    ----------
    own : (B / K, D)
        Embeddings of this process's crops.
    rows : (B / K,) int64
        Their places in the batch.
    total : int
        B.

    Returns
    -------
    (B, D), float32 at least; with one process `own` itself.
    """
    if world_size() == 1:
        return own
    wide = own.float() if own.dtype in (torch.bfloat16, torch.float16) else own
    return _Gather.apply(wide, rows, total)


def share_gradients(module: nn.Module) -> None:
    """Process 0's gradients for all: the loss's own parameters must not drift apart.

    All processes compute them from the same embeddings, so there is nothing to add up. But a GPU's
    rounding may depend on the order in which its threads finish.
    """
    if world_size() == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            dist.broadcast(parameter.grad, 0)


def _synchronise_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, SynchronisedBatchNorm(child))
        else:
            _synchronise_batch_norm(child)


class SynchronisedBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of all processes' batches, on any device.

    Parameters
    ----------
    plain : BatchNorm1d or BatchNorm2d
        Its weights and running statistics are taken over, not copied.
    """

    def __init__(self, plain: _BatchNorm) -> None:
        super().__init__(plain.num_features, plain.eps, plain.momentum)
        self._parameters, self._buffers = plain._parameters, plain._buffers
        self.train(plain.training)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) or (B, C, ...) -> the same shape."""
        if not self.training:
            return super().forward(x)
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        dims = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = wide.new_full((1,), x.numel() // x.shape[1])  # on the device: nobody waits
        sums = _AddUp.apply(torch.cat([wide.sum(dims), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centred = wide - mean.view(shape)
        variance = _AddUp.apply(centred.square().sum(dims)) / count
        if self.track_running_stats:
            self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        factor = self.weight * (variance + self.eps).rsqrt()
        return (centred * factor.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked += 1


class _AddUp(torch.autograd.Function):
    """The sum over all processes; backwards, the sum of what all processes make of it."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient
