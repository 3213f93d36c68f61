"""A notebook's parameters: papermill only warns of a wrong name."""

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
