"""What DVC knows of the runs: which are stale, what each needs, and the record of the results.

A run's stage is one of a matrix in dvc.yaml (`train@triplet-0`); all others are before the runs
(plan, corpus) or after them (the reports).
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.rwlock import rwlock
from dvc.stage import Stage
from dvc.stage.cache import RunCacheNotFoundError

from studylib.errors import StudyError

CROPS_OF_A_START = 2000.0  # a stage takes seconds to start, in which a CPU trains on as many


class Task(NamedTuple):
    """A stale stage: its name and command, the tasks whose outputs it reads, its files, its size.

    The size tells it from others of its kind, for an estimate of the time it takes.
    """

    name: str
    command: str
    after: tuple[str, ...]
    inputs: dict[str, str]  # what it reads that no task makes -> its hash when the grid began
    outputs: list[str]
    size: float = 1.0

    @property
    def kind(self) -> str:
        return self.name.partition("@")[0]


def update_upstream(root: Path) -> None:
    """Run, with DVC, the stages before the runs, if they are stale."""
    with _repository(root) as repo:
        graph = repo.index.graph
        before = {each for stage in graph if _is_run(stage) for each in graph.successors(stage)}
        names = sorted(stage.name for stage in before if stage.cmd and not _is_run(stage))
        if names:
            repo.reproduce(names)


def stale_tasks(root: Path) -> tuple[list[Task], list[str]]:
    """The tasks, each after those it needs; and the names of stages found in DVC's run cache.

    The latter are put in place here, as `dvc repro` does, and need only be committed.
    """
    tasks: dict[str, Task] = {}
    restored: list[str] = []
    with _repository(root) as repo:
        graph = repo.index.graph
        for stage in networkx.dfs_postorder_nodes(graph):
            if not _is_run(stage):
                continue
            after = tuple(s.name for s in graph.successors(stage) if _is_run(s) and s.name in tasks)
            if not after and not stage.changed():
                continue
            if not after and _restored(repo, stage):
                restored.append(stage.name)
                continue
            made = {path for name in after for path in tasks[name].outputs}
            outputs = [out.fs_path for out in stage.outs]
            inputs = _inputs(stage, made)
            tasks[stage.name] = Task(stage.name, stage.cmd, after, inputs, outputs, _size(stage))
    return list(tasks.values()), restored


@contextlib.contextmanager
def reserve(root: Path, tasks: list[Task]) -> Iterator[None]:
    """Keep `dvc repro` and other grids off the tasks' outputs, as `dvc repro` does itself."""
    with _repository(root) as repo:
        folder, files = repo.tmp_dir, repo.fs
        hardlink = repo.config["core"].get("hardlink_lock", False)
    outputs = [path for task in tasks for path in task.outputs]
    with _told(), rwlock(folder, files, "studylib grid", [], outputs, hardlink):
        yield


def commit(root: Path, restored: list[str], done: list[Task]) -> list[str]:
    """Record the results with DVC; a sentence for each task whose inputs changed while it ran."""
    tasks = {task.name: task for task in done}
    moved, whole = [], []
    try:
        with _repository(root) as repo:
            for stage in filter(_is_run, repo.index.stages):
                if stage.name not in tasks and stage.name not in restored:
                    continue
                if changed := _changed_input(stage, tasks.get(stage.name)):
                    moved.append(
                        f"{stage.name} is not committed, as {changed} changed while it ran "
                        f"(if that decides nothing: dvc commit --force {stage.name})"
                    )
                else:
                    whole.append(stage)
            _record(whole)
    except StudyError as error:
        words = f"dvc commit --force {' '.join([*restored, *tasks])}"
        raise StudyError(f"the results are not recorded, as {error}; say: {words}") from None
    return moved


def _record(stages: list[Stage]) -> None:
    """What `dvc commit --force` does, but all in one go: one by one it takes seconds a stage."""
    for stage in stages:
        stage.save()
        stage.commit()
    for file in {stage.path: stage.dvcfile for stage in stages}.values():
        file.dump_stages([s for s in stages if s.path == file.path], update_pipeline=False)


def _is_run(stage: Stage) -> bool:
    return "@" in (getattr(stage, "name", None) or "")


def _inputs(stage: Stage, made: set[str]) -> dict[str, str]:
    """Each dependency, unless `made` by a task, and the hash of what it is now."""
    return {
        dependency.def_path: str(dependency.get_hash().value) if dependency.exists else "missing"
        for dependency in stage.deps
        if dependency.fs_path not in made
    }


def _size(stage: Stage) -> float:
    """1, but for training what its run's plan says: the crops, and some for starting at all."""
    for path in (Path(dependency.fs_path) for dependency in stage.deps):
        if path.parts[-3:-1] == ("plan", "train"):
            plan = json.loads(path.read_text(encoding="utf-8"))
            return plan["settings"]["train"]["crops"] + CROPS_OF_A_START
    return 1.0


def _changed_input(stage: Stage, task: Task | None) -> str | None:
    """The first of a task's inputs that is not what it was when the grid began."""
    before = task.inputs if task else {}
    now = _inputs(stage, set()) if before else {}
    return next((path for path, value in before.items() if now.get(path) != value), None)


def _restored(repo: Repo, stage: Stage) -> bool:
    """Whether DVC's run cache holds this stage's results, which are then put in place."""
    try:
        repo.stage_cache.restore(stage)
    except RunCacheNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _repository(root: Path) -> Iterator[Repo]:
    """DVC's view of the project, under DVC's lock; DVC looks for targets in the present folder."""
    with (
        _told(),
        contextlib.chdir(root),
        Repo(str(root), _wait_for_lock=True) as repo,
        lock_repo(repo),
    ):
        yield repo


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """DVC's errors as one sentence."""
    try:
        yield
    except DvcException as error:
        words = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise StudyError(f"DVC says: {' '.join(words.split())}") from None
