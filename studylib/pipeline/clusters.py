"""Clusters of dask.distributed: this machine's, one that runs already, or SLURM jobs."""

import contextlib
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import dask
from distributed import Client, Nanny, Scheduler, Security, SpecCluster

from studylib.errors import StudyError

FAILURES_OF_JOBS = 100


@contextlib.contextmanager
def connected(
    n_tasks: int,
    workers: int | None,
    threads: int | None,
    scheduler: str | None,
    slurm: dict[str, Any] | None,
    retries: int,
) -> Iterator[tuple[Client, int]]:
    """A client with at least one worker, and the CPU threads of each task."""
    if scheduler and (workers or slurm):
        raise StudyError("--scheduler names a cluster that runs: leave out --workers and --slurm")
    settings = {
        # A SLURM job that ends at its time limit counts as a failure, too.
        "distributed.scheduler.allowed-failures": FAILURES_OF_JOBS if slurm else retries,
        "distributed.scheduler.worker-saturation": 1.0,  # the next task to whoever is free first
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        if scheduler:
            cluster, threads = scheduler, threads or 1
        elif slurm:
            threads = threads or 1
            cluster = stack.enter_context(slurm_cluster(slurm, workers, threads))
        else:
            workers, threads, gpus = local_layout(n_tasks, workers, threads)
            cluster = stack.enter_context(local_cluster(workers, gpus))
        try:
            client = stack.enter_context(Client(cluster))
        except (OSError, ValueError) as error:
            raise StudyError(f"no dask scheduler answers at {scheduler}: {error}") from None
        try:
            client.wait_for_workers(1, timeout=None if slurm else 60)
        except TimeoutError:
            raise StudyError(f"{scheduler or 'the cluster'} has had no worker for 60 s") from None
        yield client, threads


def local_layout(
    n_tasks: int, workers: int | None, threads: int | None
) -> tuple[int, int, list[str]]:
    """Workers, the threads of each, and the GPUs of this machine."""
    gpus = visible_gpus()
    if not (workers and threads):
        from studylib.models.devices import available_cores

        cores = available_cores()
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


def local_cluster(workers: int, gpus: list[str]) -> SpecCluster:
    """One process a worker, each with one GPU if there are any; strangers lack the certificate."""
    security = Security.temporary()
    options = {
        "host": "127.0.0.1",
        "protocol": "tls://",
        "security": security,
        "dashboard": False,
    }
    worker = options | {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL}
    return SpecCluster(
        workers={
            index: {
                "cls": Nanny,
                "options": worker
                | {"env": {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}},
            }
            for index in range(workers)
        },
        scheduler={
            "cls": Scheduler,
            "options": options | {"port": 0, "dashboard_address": "127.0.0.1:0"},
        },
        security=security,
        silence_logs=logging.ERROR,
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
    if isinstance(seconds := options.get("walltime"), int):  # as YAML reads 24:00:00
        minutes, options = seconds // 60, options | {"walltime": None}
        options["walltime"] = f"{minutes // 60:02}:{minutes % 60:02}:{seconds % 60:02}"
    try:
        cluster = SLURMCluster(**(defaults | options))
    except (TypeError, ValueError) as error:
        raise StudyError(f"--slurm: {error}") from None
    _require_accepted(cluster.job_script())
    cluster.adapt(minimum_jobs=workers, maximum_jobs=workers)
    return cluster


def _require_accepted(script: str) -> None:
    """Ask SLURM whether it would take such a job: dask-jobqueue would try again for ever."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        answer = subprocess.run(
            ["sbatch", "--test-only", file.name], capture_output=True, text=True, check=False
        )
    if answer.returncode:
        raise StudyError(f"SLURM refuses such jobs: {' '.join(answer.stderr.split())}")
