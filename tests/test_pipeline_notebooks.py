"""A notebook's parameters, of whose wrong names papermill only warns, and its command's end."""

import os
import subprocess
import sys

import psutil
import pytest

from studylib.errors import StudyError
from studylib.pipeline.notebooks import check_parameters

INJECTED = """# Parameters
loss = "triplet"
overrides = {"trunk": {"channels": 8}}
"""


def test_a_parameter_that_the_notebook_does_not_have_is_refused():
    history = ["", "loss = None\nseed = 0", INJECTED + "los = 3\n"]
    with pytest.raises(StudyError, match="unknown parameter 'los'; did you mean 'loss'"):
        check_parameters(history, ["loss", "seed", "overrides"])


def test_all_cells_may_run_twice_and_a_user_may_have_variables_of_his_own():
    cells = ["loss = None", INJECTED, "facts = 3\nx = {}"]
    check_parameters(["", *cells, "mine = 3", *cells], ["loss", "overrides"])
    check_parameters(["", "loss = None", "mine = 3"], ["loss"])


def test_a_command_ends_with_dvc_which_has_started_it():
    own = "from studylib.files.processes import end_with_parent as e; e(); print(1, flush=True)"
    command = [sys.executable, "-c", f"{own}; import time; time.sleep(600)"]
    shell = f"import subprocess; subprocess.call({command})"
    pipe = {"stdout": subprocess.PIPE, "env": os.environ | {"DVC_STAGE": "experiment"}}
    with subprocess.Popen([sys.executable, "-c", shell], **pipe) as parent:
        parent.stdout.readline()
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
        assert not psutil.wait_procs([child], timeout=60)[1]
