"""The study's notebooks: their parameters checked, executed with papermill."""

import ast
import contextlib
import logging
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TextIO

import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from studylib.errors import StudyError
from studylib.files.documents import unknown
from studylib.pipeline.params import read_params, run_settings

INJECTED = "# Parameters"  # first line of papermill's cell of given values


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
        A given parameter is not one of the notebook's.
    """
    injected = [source for source in history if source.startswith(INJECTED)]
    for statement in ast.parse(injected[-1]).body if injected else []:
        for target in statement.targets if isinstance(statement, ast.Assign) else []:
            if isinstance(target, ast.Name) and target.id not in known:
                raise StudyError(unknown("unknown parameter", target.id, sorted(known)))


def run_experiment(root: Path, run: str, seed: int, log: TextIO | None = None) -> None:
    """Execute experiment.ipynb for the pipeline; what it prints is shown, or written to `log`.

    Raises
    ------
    StudyError
        An unknown run; or as `run_report`.
    """
    out = experiment_folder(root, run, seed)
    copy = f"{Path(out).parents[1]}/notebooks/experiment/{run}-{seed}"
    _execute(root, "experiment", copy, {"run": run, "seed": seed, "out": out}, log)


def run_report(root: Path, report: str) -> None:
    """Execute a report's notebook for the pipeline.

    Raises
    ------
    StudyError
        If the notebook is missing, or its own StudyError; any other error is raised as papermill
        does. The executed copy, up to the failing cell, is written in every case.
    """
    results = "results"
    if report != "summary":  # of all studies
        results += f"/{read_params(root / 'params.yaml').study.name}"
    _execute(root, report, f"{results}/notebooks/{report}", {"out": f"{results}/{report}"})


def experiment_folder(root: Path, run: str, seed: int) -> str:
    """Path, below the root, of the pipeline's results of an experiment of the active study.

    Raises
    ------
    StudyError
        An unknown run.
    """
    settings = run_settings(read_params(root / "params.yaml"), run)
    return f"results/{settings.study}/experiment/{run}-{seed}"


def _execute(root: Path, name: str, copy: str, values: dict, log: TextIO | None = None) -> None:
    notebooks = root / "notebooks"
    if notebooks / f"{name}.ipynb" not in notebooks.glob("*.ipynb"):  # or it would lie elsewhere
        raise StudyError(f"{notebooks / name}.ipynb does not exist: expected a notebook")
    (root / copy).parent.mkdir(parents=True, exist_ok=True)
    # papermill warns of what its parser of parameters cannot read, such as `a = b = None`.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # Both paths are recorded in the copy, which may be published: they are below the root.
    given = f"notebooks/{name}.ipynb", f"{copy}.ipynb", values
    shown = {"progress_bar": False, "stdout_file": log or sys.stdout}
    shown |= {"stderr_file": log or sys.stderr}
    try:
        with tempfile.TemporaryDirectory() as sockets, contextlib.chdir(root):
            # Two kernels started at one moment in one folder would use the same sockets.
            own = {} if sys.platform == "win32" else {"transport": "ipc", "ip": f"{sockets}/kernel"}
            config = Config({"KernelManager": own})
            papermill.execute_notebook(*given, cwd="notebooks", config=config, **shown)
    except PapermillExecutionError as error:
        if error.ename == "StudyError":
            raise StudyError(error.evalue) from None
        raise
