"""Clusters of dask.distributed: this machine's, one that runs already, or SLURM jobs."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Client, LocalCluster, Security

from studylib.errors import StudyError
from studylib.models.devices import available_cores

LOST_WORKERS = (
    100  # that a run may outlive: a SLURM job ends at its time limit, and the run goes on
)


@contextlib.contextmanager
def connected(
    n_tasks: int,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    slurm: dict[str, Any] | None,
) -> Iterator[tuple[Client, int, list[str]]]:
    """A client with at least one worker, the CPU threads of each worker, this machine's GPUs."""
    if scheduler and (workers or slurm):
        raise StudyError("--scheduler names a cluster that runs: leave out --workers and --slurm")
    gpus: list[str] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS})
        )
        if slurm:
            cluster = stack.enter_context(slurm_cluster(slurm, workers, threads or 1))
        elif not scheduler:
            workers, threads, gpus = local_layout(n_tasks, workers, threads)
            cluster = stack.enter_context(local_cluster(workers))
        try:
            client = stack.enter_context(Client(scheduler or cluster))
            client.wait_for_workers(1, timeout=None if slurm else 60)
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            where = scheduler or "the cluster of this machine"
            raise StudyError(f"no worker of {where} answers: {error}") from None
        yield client, threads or 1, gpus


def local_layout(
    n_tasks: int, workers: int | None, threads: int | None
) -> tuple[int, int, list[str]]:
    """Workers, the threads of each, and the GPUs of this machine: one for each worker."""
    gpus, cores = visible_gpus(), available_cores()
    workers = workers or len(gpus) or max(1, cores // (threads or 1))
    threads = threads or max(1, cores // workers)
    return min(n_tasks, workers), threads, gpus


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        names = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
        return [name.strip() for name in names if name.strip() not in ("", "-1")]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def local_cluster(workers: int) -> LocalCluster:
    """Worker processes of this machine; other users, who lack the certificate, cannot use them."""
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        memory_limit=0,
        host="127.0.0.1",
        protocol="tls://",
        security=Security.temporary(),
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )


def slurm_cluster(options: dict[str, Any], workers: int | None, threads: int):
    """One SLURM job a worker; a job that ends, as at its time limit, is submitted again."""
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise StudyError("--slurm needs dask-jobqueue: install studylib[slurm]") from None
    if not workers:
        raise StudyError("--slurm needs --workers, the number of jobs")
    if not shutil.which("sbatch"):
        raise StudyError("--slurm needs sbatch, which this machine does not have")
    defaults = {"cores": 1, "processes": 1, "job_cpu": threads, "memory": "8GB"}
    try:
        cluster = SLURMCluster(**(defaults | options))
    except (TypeError, ValueError) as error:
        raise StudyError(f"--slurm: {error}") from None
    cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)
    return cluster
