"""The study's notebooks: their parameters checked, executed with papermill."""

import ast
import logging
import os
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from studylib.errors import StudyError
from studylib.files.documents import unknown

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


def run_notebook(notebook: Path, output: Path, parameters: dict[str, Any]) -> None:
    """Execute a notebook with parameters; its printed progress is shown as it comes.

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
                progress_bar=False,
                log_output=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
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
