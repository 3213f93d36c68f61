"""`studylib grid`: the stale experiments of the pipeline as tasks of a dask.distributed cluster.

DVC decides what is stale and records what was made. In between each worker executes the notebook of
one experiment after another, in the project's folder, which all workers see under one path. A
worker has one thread for tasks; start others with `dask worker --nthreads 1`, each with its own
CUDA_VISIBLE_DEVICES. When a worker dies, its experiment is run again on another, where training
goes on from its checkpoint.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import CancelledError, Client, Future, get_client, get_worker, wait

from studylib.errors import StudyError
from studylib.files.atomic import read_json
from studylib.files.documents import read_yaml
from studylib.pipeline.clusters import connected
from studylib.pipeline.notebooks import run_experiment

LOGS = ".grid"  # git ignores it
SECONDS_BETWEEN_LOOKS = 2.0


def run_grid(
    root: Path,
    *,
    workers: int | None = None,
    threads: int | None = None,
    scheduler: str | None = None,
    slurm: dict[str, Any] | None = None,
    retries: int = 2,
    report: Callable[[str], None] = print,
) -> list[str]:
    """Run the stale experiments, and record with DVC what succeeded.

    Parameters
    ----------
    root : Path
        The project's folder.
    workers, threads : int, optional
        How many experiments run at once, and the CPU threads of each. By default one worker for
        each GPU of this machine, or without a GPU for each core; they share the cores.
    scheduler : str, optional
        The address of a running scheduler, instead of a cluster of this machine.
    slurm : dict, optional
        Keywords of dask_jobqueue.SLURMCluster: one job a worker, instead of this machine.
    retries : int
        How often an experiment that fails is run again.
    report : callable
        Called with a line of text whenever an experiment has ended.

    Returns
    -------
    list of str
        A sentence for each experiment that failed; the others are recorded all the same.

    Raises
    ------
    StudyError
        A stage before the experiments fails, or the scheduler or all workers are lost.
    """
    dvc(root, "repro", "plan", "corpus")
    status = json.loads(dvc(root, "status", "--json", "experiment"))
    stale = [name for name in status if name.startswith("experiment@")]
    report(f"{len(stale)} stale: {', '.join(stale) or 'nothing to run'}")
    done: list[str] = []
    failures: list[str] = []
    (root / LOGS).mkdir(exist_ok=True)
    try:
        if stale:
            with connected(len(stale), workers, threads, scheduler, slurm) as (client, k, gpus):
                tasks = {n: (n, str(root), k, gpus, client.id) for n in reversed(stale)}
                _run(client, tasks, retries, done, failures, report)
    finally:  # interrupted or not, what is whole is kept
        whole = [name for name in done if _is_of_plan(root, name)]
        if whole:
            dvc(root, "commit", "--force", *whole)
        report(f"recorded: {len(whole)}; now: dvc repro")
    moved = [f"{name}: its plan has changed while it ran" for name in done if name not in whole]
    return failures + moved


def _run(
    client: Client,
    tasks: dict[str, tuple],
    retries: int,
    done: list[str],
    failures: list[str],
    report: Callable[[str], None],
) -> None:
    """Keep every worker at one experiment until all have ended; the last of `tasks` is first.

    No more are submitted than there are workers: dask, which cannot know how long one takes, would
    deal out all of them at once, and some would wait behind a long one while others idle.
    """
    total = len(tasks)
    running: dict[str, Future] = {}
    try:
        while tasks or running:
            while tasks and len(running) < max(1, sum(client.nthreads().values())):
                name, arguments = tasks.popitem()
                running[name] = client.submit(run_task, *arguments, retries=retries, pure=False)
            with contextlib.suppress(TimeoutError):
                pending = list(running.values())
                wait(pending, timeout=SECONDS_BETWEEN_LOOKS, return_when="FIRST_COMPLETED")
            for name in [name for name, future in running.items() if future.done()]:
                future = running.pop(name)
                if future.status == "finished":
                    done.append(name)
                elif future.status == "error":
                    failures.append(f"{name}: {future.exception()} (see {LOGS}/{name}.log)")
                else:
                    raise CancelledError(name)
                ended = failures[-1] if future.status == "error" else name
                report(f"{len(done) + len(failures)} of {total}: {ended}")
    except (OSError, CancelledError):
        raise StudyError(
            "the dask scheduler is lost; what was done is recorded, `studylib grid` runs the rest"
        ) from None


def run_task(name: str, root: str, threads: int, gpus: list[str], client: str) -> None:
    """On a worker: execute one experiment, as long as the client that asked for it is there."""
    if gpus and isinstance(get_worker().name, int):
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[get_worker().name % len(gpus)]
    for library in ("OMP", "MKL", "OPENBLAS"):  # dask sets them to 1
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
    ended = threading.Event()
    watch = threading.Thread(target=_end_kernel_without, args=(get_client(), client, ended))
    watch.start()
    run, _, seed = name.partition("@")[2].rpartition("-")
    try:
        with (Path(root) / LOGS / f"{name}.log").open("a") as log, contextlib.chdir(root):
            run_experiment(Path(root), run, int(seed), log)
    finally:
        ended.set()


def _end_kernel_without(worker: Client, client: str, ended: threading.Event) -> None:
    """Kill this worker's kernel once the scheduler has lost the client, or is lost itself."""
    import psutil

    while not ended.wait(SECONDS_BETWEEN_LOOKS):
        with contextlib.suppress(Exception):  # whatever a closed or lost client raises
            if worker.run_on_scheduler(_has_client, client):
                continue
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return


def _has_client(client: str, dask_scheduler: Any = None) -> bool:
    return client in dask_scheduler.clients


def _is_of_plan(root: Path, name: str) -> bool:
    """Whether the results are those of the present plan."""
    results = root / "results" / read_yaml(root / "params.yaml")["study"]["name"]
    experiment = name.partition("@")[2]
    digests = read_json(results / "experiment" / experiment / "manifest.json")["digests"]
    plan = read_json(results / "plan" / "experiment" / f"{experiment.rpartition('-')[0]}.json")
    return digests == {key: plan[key] for key in digests}


def dvc(root: Path, *words: str) -> str:
    """Run DVC's command line in the project; what it printed, or StudyError with its last line."""
    command = [sys.executable, "-m", "dvc", *words]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path}  # `python` of dvc.yaml is this one
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise StudyError(f"dvc {' '.join(words)}: {' '.join(last)}")
    return done.stdout
