"""The study's notebooks: their parameters checked, executed with papermill."""

import ast
import logging
import os
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TextIO

import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from studylib.errors import StudyError
from studylib.files.documents import unknown
from studylib.pipeline.params import read_params

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
        As `run_report`.
    """
    out = Path(experiment_folder(root, run, seed))
    copy = out.parents[1] / "notebooks" / "experiment" / out.name
    _execute(root, "experiment", copy, {"run": run, "seed": seed, "out": out.as_posix()}, log)


def run_report(root: Path, report: str) -> None:
    """Execute a report's notebook for the pipeline.

    Raises
    ------
    StudyError
        If the notebook is missing, or its own StudyError; any other error is raised as papermill
        does. The executed copy, up to the failing cell, is written in every case.
    """
    # The summary is of all studies.
    study = "" if report == "summary" else read_params(root / "params.yaml").study.name
    results = Path("results") / study
    _execute(root, report, results / "notebooks" / report, {"out": (results / report).as_posix()})


def experiment_folder(root: Path, run: str, seed: int) -> str:
    """Path, below the root, of the pipeline's results of an experiment of the active study.

    Raises
    ------
    StudyError
        An unknown run.
    """
    params = read_params(root / "params.yaml")
    if run not in params.runs:
        raise StudyError(unknown("no run is named", run, params.runs))
    return f"results/{params.study.name}/experiment/{run}-{seed}"


def _execute(
    root: Path, name: str, copy: Path, parameters: dict[str, Any], log: TextIO | None = None
) -> None:
    notebook = root / "notebooks" / f"{name}.ipynb"
    if notebook not in (root / "notebooks").glob("*.ipynb"):  # or it would lie elsewhere
        raise StudyError(f"{notebook} does not exist: expected a notebook")
    output = root / f"{copy}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    # papermill only warns of an unknown parameter; the notebook's own check raises.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # Both are recorded in the copy, which may be published.
    given, written = os.path.relpath(notebook), os.path.relpath(output)
    shown = {"progress_bar": False, "log_output": False}
    shown |= {"stdout_file": log or sys.stdout, "stderr_file": log or sys.stderr}
    try:
        with tempfile.TemporaryDirectory() as sockets:
            # Two kernels started at one moment in one folder would use the same sockets.
            own = {} if sys.platform == "win32" else {"transport": "ipc", "ip": f"{sockets}/kernel"}
            config = Config({"KernelManager": own})
            papermill.execute_notebook(
                given, written, parameters, cwd=notebook.parent, config=config, **shown
            )
    except PapermillExecutionError as error:
        if error.ename == "StudyError":
            raise StudyError(error.evalue) from None
        raise
