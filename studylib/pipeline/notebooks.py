"""The study's notebooks: their parameters checked, executed with papermill."""

import ast
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TextIO

import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from studylib.errors import StudyError
from studylib.files.documents import read_yaml, unknown

INJECTED = "# Parameters"  # papermill's cell with the values given begins so


def check_parameters(history: Sequence[str], known: Collection[str]) -> None:
    """Refuse a parameter that the notebook does not have: papermill only warns of it.

    Only papermill's own cell is read: names that a user or a later cell assigns are no parameters,
    so that all cells may be run again in the same kernel.

    Parameters
    ----------
    history : sequence of str
        IPython's list `In`: the source of each cell that this kernel has run.
    known : collection of str
        The names of the notebook's parameters.

    Raises
    ------
    StudyError
        The notebook has been given a parameter of another name.
    """
    injected = [source for source in history if source.startswith(INJECTED)]
    for statement in ast.parse(injected[-1]).body if injected else []:
        for target in statement.targets if isinstance(statement, ast.Assign) else []:
            if isinstance(target, ast.Name) and target.id not in known:
                raise StudyError(unknown("unknown parameter", target.id, known))


def run_experiment(root: Path, run: str, seed: int, log: TextIO | None = None) -> None:
    """Execute experiment.ipynb for the pipeline; raises as `run_notebook`."""
    out = experiment_folder(root, run, seed)
    copy = root / _results(root) / "notebooks" / "experiment" / f"{run}-{seed}.ipynb"
    parameters = {"run": run, "seed": seed, "out": out}
    run_notebook(root / "notebooks" / "experiment.ipynb", copy, parameters, log)


def run_report(root: Path, report: str) -> None:
    """Execute a report's notebook for the pipeline; raises as `run_notebook`."""
    results = _results(root)
    copy = root / results / "notebooks" / f"{report}.ipynb"
    parameters = {"out": (results / report).as_posix()}
    run_notebook(root / "notebooks" / f"{report}.ipynb", copy, parameters)


def experiment_folder(root: Path, run: str, seed: int) -> str:
    """Where the pipeline has the results of an experiment of the active study, below the root."""
    return (_results(root) / "experiment" / f"{run}-{seed}").as_posix()


def _results(root: Path) -> Path:
    return Path("results") / read_yaml(root / "params.yaml")["study"]["name"]


def run_notebook(
    notebook: Path, output: Path, parameters: dict[str, Any], log: TextIO | None = None
) -> None:
    """Execute a notebook with parameters in the project's folder.

    What it prints is shown as it comes, or written to `log`.

    Raises
    ------
    StudyError
        If the notebook is missing, or its own StudyError; any other error is raised as papermill
        does. The executed copy, up to the failing cell, is at `output` in every case.
    """
    if not notebook.exists():
        raise StudyError(f"{notebook} does not exist: expected a notebook")
    output.parent.mkdir(parents=True, exist_ok=True)
    # It warns of an unknown parameter and goes on; the notebook's own check stops, and says more.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        with tempfile.TemporaryDirectory() as sockets:
            papermill.execute_notebook(
                os.path.relpath(notebook),  # it is recorded in the copy, which may be published
                output,
                parameters,
                cwd=notebook.parent,
                progress_bar=False,
                log_output=False,
                stdout_file=log or sys.stdout,
                stderr_file=log or sys.stderr,
                config=kernel_config(sockets),
            )
    except PapermillExecutionError as error:
        if error.ename == "StudyError":
            raise StudyError(error.evalue) from None
        raise


def kernel_config(sockets: str) -> Config:
    """Talk to the kernel through sockets of this user alone, where the system has them.

    Each kernel's sockets lie in a folder of their own: two that start in one working folder at the
    same moment would otherwise take each other's.
    """
    if sys.platform == "win32":
        return Config()
    return Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}})


def end_with_parent() -> None:
    """From now on, end this process when DVC, which started it, has ended; its kernel follows."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    if "DVC_STAGE" in os.environ:  # by hand, it may go on when its terminal is closed
        threading.Thread(target=watch, daemon=True).start()
