"""`studylib grid`: the stale experiments of the pipeline as tasks of a dask.distributed cluster.

DVC decides what is stale and records what was made. In between each worker executes the notebook of
one experiment after another, in the project's folder, which all workers see under one path. A
worker has one thread for tasks; start others with `dask worker --nthreads 1`, each with its own
CUDA_VISIBLE_DEVICES. When a worker dies, its experiment is run again on another, where training
goes on from its checkpoint.
"""

import contextlib
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import dask
import distributed
import psutil
import torch

from studylib.errors import StudyError
from studylib.models.devices import available_cores, usable_cores
from studylib.pipeline.notebooks import experiment_folder, run_experiment
from studylib.reports.study import is_of_plan

LOGS = ".grid"  # git ignores it
RETRIES = 2  # of an experiment that fails
SECONDS_BETWEEN_LOOKS = 2.0
Share = dict[str, str]  # of a worker in the machine: variables of its environment
# Lost workers after which an experiment is given up: a batch job ends at its time limit.
dask.config.set({"distributed.scheduler.allowed-failures": 100})


def run_grid(root: Path, workers: int | None = None, scheduler: str | None = None) -> list[str]:
    """Run the stale experiments, and record with DVC what succeeded.

    Parameters
    ----------
    root : Path
        The project's folder.
    workers : int, optional
        How many experiments run at once. By default one for each GPU of this machine, or without a
        GPU for each core; they share the cores.
    scheduler : str, optional
        The address of a running scheduler, instead of a cluster of this machine.

    Returns
    -------
    list of str
        A sentence for each experiment that failed; the others are recorded all the same.

    Raises
    ------
    StudyError
        A stage before the experiments fails, or the scheduler or all workers are lost.
    """
    if scheduler and workers:
        raise StudyError("--scheduler names a cluster that runs: leave out --workers")
    dvc(root, "repro", "plan", "corpus")
    stale = list(json.loads(dvc(root, "status", "--json", "experiment")))
    print(f"{len(stale)} stale: {', '.join(stale) or 'nothing to run'}", flush=True)
    if not stale:
        return []
    ended: dict[str, str] = {}  # name -> why it failed, or nothing
    shares = [] if scheduler else local_shares(workers)
    try:
        if scheduler:
            cluster = contextlib.nullcontext(scheduler)
        else:
            cluster = distributed.LocalCluster(
                n_workers=min(len(shares), len(stale)),
                threads_per_worker=1,
                security=True,  # other users, who lack the certificate, cannot use the workers
                dashboard_address="127.0.0.1:0",  # any free port: two grids may run at once
                silence_logs=logging.CRITICAL,
            )
        with cluster as address, distributed.Client(address) as client:
            _run(client, stale, ended, (root, shares, client.id))
    except (OSError, ValueError, distributed.CancelledError) as error:
        lost = f"the dask scheduler is lost ({error}): `studylib grid` runs the rest"
        raise StudyError(lost) from None
    finally:  # interrupted or not, complete results are recorded
        for name, failure in ended.items():
            if not failure and not is_of_plan(root / experiment_folder(root, *_run_and_seed(name))):
                ended[name] = f"{name}: its plan has changed while it ran"
        whole = [name for name, failure in ended.items() if not failure]
        if whole:
            dvc(root, "commit", "--force", *whole)
        print(f"recorded: {len(whole)}; now: dvc repro", flush=True)
    return [failure for failure in ended.values() if failure]


def local_shares(workers: int | None) -> list[Share]:
    """The share of each worker in the cores and the GPUs of this machine."""
    n_gpus, cores = torch.cuda.device_count(), available_cores()
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(n_gpus)))
    own = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus.split(",")[:n_gpus]] or [{}]
    workers = workers or n_gpus or cores
    threads = {"OMP_NUM_THREADS": str(max(1, cores // workers))}
    return [threads | own[number % len(own)] for number in range(workers)]


def _run(client: distributed.Client, names: list[str], ended: dict[str, str], given: tuple) -> None:
    """Run one experiment at a time on each worker of a cluster until all have ended.

    `given` is what `run_task` takes after the name.

    No more are submitted than there are workers: dask does not know how long one takes and would
    assign all at once; some would then wait for a long one while other workers are idle.
    """
    waiting, running = names.copy(), {}
    client.wait_for_workers(1)
    while waiting or running:
        while waiting and len(running) < max(1, sum(client.nthreads().values())):
            name = waiting.pop(0)
            running[name] = client.submit(run_task, name, *given, retries=RETRIES, pure=False)
        with contextlib.suppress(TimeoutError):
            distributed.wait(list(running.values()), SECONDS_BETWEEN_LOOKS, "FIRST_COMPLETED")
        for name in [name for name, future in running.items() if future.done()]:
            failure = running.pop(name).exception()
            if isinstance(failure, distributed.CancelledError):
                raise failure
            ended[name] = f"{name}: {failure} (see {LOGS}/{name}.log)" if failure else ""
            print(f"{len(ended)} of {len(names)}: {ended[name] or name}", flush=True)


def run_task(name: str, root: Path, shares: list[Share], client: str) -> None:
    """On a worker: execute one experiment, while the client that submitted it is connected.

    Parameters
    ----------
    name : str
        Of its stage.
    shares : list
        Of the workers of this machine; empty on another one, all of whose cores are used.
    """
    all_cores = {"OMP_NUM_THREADS": str(usable_cores())}  # dask sets it to 1
    os.environ |= shares[distributed.get_worker().name] if shares else all_cores
    ended = threading.Event()
    watched = distributed.get_client(), client, ended
    threading.Thread(target=_end_kernel_without, args=watched).start()
    (root / LOGS).mkdir(exist_ok=True)
    try:
        with (root / LOGS / f"{name}.log").open("a") as log:
            run_experiment(root, *_run_and_seed(name), log)
    finally:
        ended.set()


def _run_and_seed(name: str) -> tuple[str, int]:
    """A stage such as experiment@triplet-0 -> triplet, 0."""
    run, _, seed = name.partition("@")[2].rpartition("-")
    return run, int(seed)


def _end_kernel_without(worker: distributed.Client, client: str, ended: threading.Event) -> None:
    """Kill this worker's kernel once the scheduler has lost the client, or is lost itself."""
    while not ended.wait(SECONDS_BETWEEN_LOOKS):
        with contextlib.suppress(Exception):  # whatever a closed or lost client raises
            if worker.run_on_scheduler(lambda dask_scheduler: client in dask_scheduler.clients):
                continue
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return


def dvc(root: Path, *words: str) -> str:
    """Run DVC's command line in the project; what it printed, or StudyError with its last line."""
    command = [sys.executable, "-m", "dvc", *words]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path}  # `python` of dvc.yaml is this one
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise StudyError(f"dvc {' '.join(words)}: {' '.join(last)}")
    return done.stdout
