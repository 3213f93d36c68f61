"""`studylib grid`: the stale runs of the pipeline as tasks of a dask.distributed cluster.

DVC decides what is stale and records what was made; in between, each stage of a matrix in dvc.yaml
(one run, one seed) is a task: the stage's own command, in the project's folder, in a process of its
own. So a result does not depend on who ran it, and `dvc repro` afterwards finds only the reports
left to do. All workers must see the project's folder under the same path. A task whose worker dies
is run again on another, where training goes on from its checkpoint.

A worker runs as many tasks at once as it has threads for dask: one, where this module starts it.
Start others with `dask worker --nthreads 1`, each with its own CUDA_VISIBLE_DEVICES.
"""

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from distributed import Client, Future, wait

from studylib.errors import StudyError
from studylib.pipeline.clusters import connected
from studylib.pipeline.stages import Task, commit, reserve, stale_tasks, update_upstream
from studylib.pipeline.tasks import LOGS, check_project, parameters_digest, run_task, stop_tasks

TOPIC = "studylib-grid"
SECONDS_BETWEEN_LINES = 60


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
    """Run what is stale of all runs and seeds, and commit what succeeded to DVC.

    Parameters
    ----------
    root : Path
        The project's folder.
    workers, threads : int, optional
        How many tasks run at once, and the CPU threads of each. Here, by default, one worker for
        each GPU, or without a GPU for each core; they share the cores.
    scheduler : str, optional
        The address of a running scheduler, instead of a cluster of this machine.
    slurm : dict, optional
        Keywords of dask_jobqueue.SLURMCluster: one job a worker, instead of this machine.
    retries : int
        How often a task that fails, or loses its worker, is run again.
    report : callable
        Called with a line of text whenever a task has ended, and every minute.

    Returns
    -------
    list of str
        A sentence for each task that failed; the others are committed all the same.

    Raises
    ------
    StudyError
        If a stage before the runs fails, nobody can be asked to work, or a worker does not see the
        project.
    """
    update_upstream(root)
    tasks, restored = stale_tasks(root)
    progress = Progress(tasks)
    (root / LOGS).mkdir(exist_ok=True)
    try:
        if tasks:
            report(f"{len(tasks)} stale: {', '.join(task.name for task in tasks)}")
            with (
                reserve(root, tasks),
                connected(len(tasks), workers, threads, scheduler, slurm, retries) as (client, k),
            ):
                _run(client, progress, root, k, retries, report)
    finally:  # interrupted or not, what is whole is kept
        done = [task for task in tasks if task.name in progress.seconds]
        moved = commit(root, restored, done)
    report(f"committed: {len(done) + len(restored) - len(moved)}; now: dvc repro")
    return [*progress.failures.values(), *moved]


class Progress:
    """What has been run, and an estimate of the time left from what it took."""

    def __init__(self, tasks: list[Task]) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.began = time.monotonic()
        self.started: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.failures: dict[str, str] = {}

    def left(self) -> list[Task]:
        ended = self.seconds.keys() | self.failures.keys()
        return [task for name, task in self.tasks.items() if name not in ended]

    def ready(self, without: Collection[str]) -> list[Task]:
        """Those that wait for no other, in order, without those that run."""
        waits_for = self.tasks.keys() - self.seconds.keys()
        return [
            task
            for task in self.left()
            if task.name not in without and waits_for.isdisjoint(task.after)
        ]

    def record(self, name: str, future: Future) -> str:
        """Note how a task has ended, and say it."""
        if future.status == "finished":
            self.seconds[name] = future.result()
            return f"{name} took {_duration(self.seconds[name])}"
        error = future.exception() if future.status == "error" else None
        if isinstance(error, StudyError):
            self.failures[name] = str(error)
        else:
            kind = type(error).__name__
            self.failures[name] = f"{name} was lost with its worker, too often: {kind}"
        return self.failures[name]

    def drop_unreachable(self) -> list[str]:
        """A sentence for each task that cannot run, because one that it needs has failed."""
        sentences = []
        for task in self.left():  # in order: what a dropped one keeps from running comes after it
            lost = [self.failures[name] for name in task.after if name in self.failures]
            if lost:
                self.failures[task.name] = f"{task.name} was not run: {lost[0]}"
                sentences.append(self.failures[task.name])
        return sentences

    def line(self, slots: int, now: float) -> str:
        left = self.left()
        running = min(slots, sum(task.name in self.started for task in left))
        failed = f", {len(self.failures)} failed" if self.failures else ""
        rate = 60 * len(self.seconds) / max(now - self.began, 1e-9)
        estimate = f", {self.estimate(slots, now)}" if left else ""
        return (
            f"{len(self.seconds)} done, {running} running, {len(left) - running} waiting{failed}; "
            f"{rate:.1f} a minute{estimate}"
        )

    def estimate(self, slots: int, now: float) -> str:
        """The time left, from what each kind of task has taken for its size, if one has ended."""
        paces = {}
        for kind in {self.tasks[name].kind for name in self.seconds}:
            ended = [name for name in self.seconds if self.tasks[name].kind == kind]
            seconds = sum(self.seconds[name] for name in ended)
            paces[kind] = seconds / sum(self.tasks[name].size for name in ended)
        left = self.left()
        rest = {
            task.name: max(0.0, paces[task.kind] * task.size - self._run_for(task.name, now))
            for task in left
            if task.kind in paces
        }
        chains = [
            rest.get(t.name, 0.0) + sum(rest.get(name, 0.0) for name in t.after) for t in left
        ]
        seconds = max(sum(rest.values()) / max(slots, 1), *chains, 0.0)
        unknown = sorted({task.kind for task in left} - paces.keys())
        if unknown and not rest:
            return "no estimate yet"
        but = f" without {' and '.join(unknown)}" if unknown else ""
        return f"about {_duration(seconds)} left{but}"

    def _run_for(self, name: str, now: float) -> float:
        return now - self.started.get(name, now)


def _run(
    client: Client,
    progress: Progress,
    root: Path,
    threads: int,
    retries: int,
    report: Callable[[str], None],
) -> None:
    """Keep every worker at one task, each after those it needs, until all have ended.

    No more are submitted than there are workers: dask, which cannot know how long a task takes,
    would deal out all of them at once, and some would wait behind a long one while others idle.
    """
    digest = parameters_digest(root)
    topic = f"{TOPIC}-{os.getpid()}-{time.time_ns()}"

    def begun(event: tuple[float, str]) -> None:
        progress.started[event[1]] = time.monotonic()

    def submitted(task: Task) -> Future:
        (root / LOGS / f"{task.name}.log").unlink(missing_ok=True)
        arguments = (task.name, task.command, str(root), digest, threads, topic)
        key = f"{task.name}-{topic}"
        return client.submit(run_task, *arguments, key=key, retries=retries, pure=False)

    with _one_sentence():
        client.run(check_project, str(root), digest)
    client.subscribe_topic(topic, begun)
    running: dict[str, Future] = {}
    try:
        while progress.left():
            slots = sum(client.nthreads().values())
            for task in progress.ready(without=running)[: max(slots - len(running), 0)]:
                running[task.name] = submitted(task)
            with contextlib.suppress(TimeoutError):
                pending = list(running.values())
                wait(pending, timeout=SECONDS_BETWEEN_LINES, return_when="FIRST_COMPLETED")
            for name in [name for name, future in running.items() if future.done()]:
                report(progress.record(name, running.pop(name)))
            for sentence in progress.drop_unreachable():
                report(sentence)
            report(progress.line(slots, time.monotonic()))
    except BaseException:
        with contextlib.suppress(Exception):  # of what is being closed
            client.cancel(list(running.values()))
            client.run(stop_tasks, on_error="ignore")
        raise


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise StudyError(
            f"a worker lacks {error.name}: start it in the project's environment"
        ) from None


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
