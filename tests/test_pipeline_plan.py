"""What becomes stale when something changes: the plan's files, before and after."""

import copy
from pathlib import Path

import nbformat
import pytest
import yaml
from tiny_project import PARAMS, ROOT, append, copy_project

from studylib.errors import StudyError
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import hashes, plan_documents

STUDY = copy.deepcopy(PARAMS)
STUDY["train"]["measurements"] = 1
STUDY["runs"] |= {
    "best": {"loss": {"name": "softmax"}, "train": {"keep": "best"}},
    "augmented": {"loss": {"name": "softmax"}, "train": {"augmentation": {}}},
    "resnet": {"loss": {"name": "softmax"}, "trunk": {"name": "fast_resnet34"}},
}
STUDY["study"]["runs"] = list(STUDY["runs"])
ALL, BASELINE = set(STUDY["runs"]), {"baseline/logmel_mean_std.json"}


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path, STUDY)


@pytest.fixture
def study():
    return copy.deepcopy(STUDY)


def planned(project: Path, study: dict | None = None) -> dict[str, dict]:
    if study:
        (project / "params.yaml").write_text(yaml.safe_dump(study))
    return plan_documents(project, read_params(project / "params.yaml"))


def stale(before: dict[str, dict], after: dict[str, dict]) -> tuple[set, set, set]:
    """Which runs would be trained, which measured, which other files have changed."""
    changed = {name for name in before if before[name] != after[name]}
    runs = {name for name in changed if name.startswith("experiment/")}
    trained, measured = (
        {Path(name).stem for name in runs if before[name][digest] != after[name][digest]}
        for digest in ("training", "evaluation")
    )
    reports = {name for name in changed if name.startswith(("reports/", "page"))}
    return trained, measured, changed - runs - reports


@pytest.mark.parametrize(
    ("file", "trained", "measured", "other"),
    [
        ("losses/triplet.py", {"triplet"}, set(), set()),
        ("losses/contrastive.py", set(), set(), set()),
        ("models/residual.py", {"resnet"}, set(), set()),
        ("models/features.py", ALL, ALL, BASELINE),
        ("training/sampling.py", ALL, set(), set()),
        ("training/augmentation.py", {"augmented"}, set(), set()),
        ("corpora/acoustics.py", {"augmented"}, set(), {"corpus.json"}),
        ("evaluation/run.py", set(), ALL, BASELINE),
        ("evaluation/baselines.py", set(), set(), BASELINE),
        ("statistics/error_rates.py", {"best"}, ALL, BASELINE),
        ("corpora/synthetic/voices.py", set(), set(), {"corpus.json"}),
        ("pipeline/grid.py", set(), set(), set()),
    ],
)
def test_an_edit_makes_stale_what_executes_it(project, file, trained, measured, other):
    before = planned(project)
    append(project / "studylib" / file)
    assert stale(before, planned(project)) == (trained, measured, other)


def test_a_default_of_the_code_counts_as_a_number_of_the_file_does(project, study):
    before = planned(project)
    study["train"]["weight_decay"] = 0.0  # the default
    assert planned(project, study) == before
    study["train"]["weight_decay"] = 0.1
    assert stale(before, planned(project, study)) == (ALL, set(), set())


def test_an_added_run_changes_no_other_file_but_the_reports(project, study):
    before = planned(project)
    study["runs"]["wide"] = {"loss": {"name": "contrastive", "margin": 0.5}}
    study["study"]["runs"].append("wide")
    after = planned(project, study)
    assert after.keys() - before.keys() == {"experiment/wide.json"}
    assert stale(before, after) == (set(), set(), set())


def test_what_decides_no_weights_retrains_nothing(project, study):
    before = planned(project)
    study["train"] |= {"checkpoint_seconds": 9.0, "threads": 2, "device": "auto"}
    study["runs"]["triplet"]["evaluate"] = {"backends": ["plda"]}
    assert stale(before, planned(project, study)) == (set(), {"triplet"}, set())
    study["runs"]["triplet"] = PARAMS["runs"]["triplet"]
    study["evaluate"]["also"] = ["people"]
    assert stale(before, planned(project, study)) == (set(), ALL, BASELINE | {"corpus.json"})


def edit_notebook(path: Path, kind: str) -> None:
    """Add to a cell, and leave outputs behind as Jupyter does."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 7
            cell.outputs = [nbformat.v4.new_output("stream", text="hello")]
    edited = [cell for cell in notebook.cells if cell.cell_type == kind]
    for cell in edited[:1]:
        cell.source += "\n# more"
    nbformat.write(notebook, path)


@pytest.mark.parametrize(
    ("name", "kind", "measured", "report"),
    [
        ("experiment", "none", set(), False),
        ("experiment", "markdown", set(), False),
        ("experiment", "code", ALL, False),
        ("corpus", "none", set(), False),
        ("corpus", "markdown", set(), True),
    ],
)
def test_a_notebook_counts_by_its_code_and_a_report_by_its_prose_too(
    project, name, kind, measured, report
):
    before = planned(project)
    edit_notebook(project / "notebooks" / f"{name}.ipynb", kind)
    after = planned(project)
    assert stale(before, after)[1] == measured
    assert (before["reports/corpus.json"] != after["reports/corpus.json"]) == report


def test_initial_weights_are_part_of_their_run_and_must_be_there(project, study):
    study["runs"]["triplet"]["train"] = {"initial_weights": "start.safetensors"}
    missing = "run triplet: train.initial_weights: start.safetensors does not exist; first run"
    with pytest.raises(StudyError, match=missing):
        planned(project, study)
    (project / "start.safetensors").write_bytes(b"some")
    before = planned(project)
    (project / "start.safetensors").write_bytes(b"others")
    assert stale(before, planned(project)) == ({"triplet"}, set(), set())


def test_imports_are_followed_through_a_face():
    through_a_face = hashes(ROOT, ["studylib.statistics.verdicts"])
    for name in ("__init__", "conclusions", "resampling"):
        assert f"studylib/statistics/{name}.py" in through_a_face
