"""What becomes stale when something changes: the plan's files, before and after."""

import copy
import re
from pathlib import Path

import nbformat
import pytest
from tiny_project import PARAMS, ROOT, append, copy_project, run, write_params

from studylib.errors import StudyError
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import imported_files, plan_documents, write_plan

STUDY = copy.deepcopy(PARAMS)
STUDY["train"]["measurements"] = 1
STUDY["runs"] |= {
    "best": {"loss": {"name": "softmax"}, "train": {"keep": "best"}},
    "augmented": {"loss": {"name": "softmax"}, "train": {"augmentation": {}}},
    "resnet": {"loss": {"name": "softmax"}, "trunk": {"name": "fast_resnet34"}},
}
STUDY["study"]["runs"] = list(STUDY["runs"])
ALL = set(STUDY["runs"])


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path, STUDY)


def planned(project: Path) -> dict[str, dict]:
    return plan_documents(project, read_params(project / "params.yaml"))


def stale(before: dict[str, dict], after: dict[str, dict]) -> dict[str, set[str]]:
    """Which runs would be trained, which measured, which other files have changed."""
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    runs = {name for name in changed if name.startswith("experiment/")}
    digests = {
        digest: {Path(name).stem for name in runs if before[name][digest] != after[name][digest]}
        for digest in ("training", "evaluation")
    }
    return digests | {"other": {name for name in changed - runs if "reports/" not in name}}


@pytest.mark.parametrize(
    ("file", "training", "evaluation", "other"),
    [
        ("losses/triplet.py", {"triplet"}, set(), set()),
        ("losses/contrastive.py", set(), set(), set()),
        ("models/residual.py", {"resnet"}, set(), set()),
        ("models/features.py", ALL, ALL, {"baseline/logmel_mean_std.json"}),
        ("training/sampling.py", ALL, set(), set()),
        ("training/augmentation.py", {"augmented"}, set(), set()),
        ("corpora/acoustics.py", {"augmented"}, set(), {"corpus.json"}),
        ("evaluation/run.py", set(), ALL, {"baseline/logmel_mean_std.json"}),
        ("evaluation/baselines.py", set(), set(), {"baseline/logmel_mean_std.json"}),
        ("statistics/error_rates.py", {"best"}, ALL, {"baseline/logmel_mean_std.json"}),
        ("corpora/synthetic/voices.py", set(), set(), {"corpus.json"}),
        ("corpora/voxceleb.py", set(), set(), set()),
        ("reports/experiment.py", set(), set(), set()),
        ("pipeline/grid.py", set(), set(), set()),
        ("cli.py", set(), set(), set()),
    ],
)
def test_an_edit_makes_stale_what_executes_it_and_nothing_else(
    project, file, training, evaluation, other
):
    before = planned(project)
    append(project / "studylib" / file)
    expected = {"training": training, "evaluation": evaluation, "other": other}
    assert stale(before, planned(project)) == expected


def test_a_default_in_code_counts_where_it_is_not_set(project):
    run(project, "studylib", "plan")
    before = plan_files(project)
    path = project / "studylib" / "training" / "settings.py"
    text = path.read_text()
    edited = re.sub(r"(weight_decay: .*) = 0\.0$", r"\1 = 0.1", text, flags=re.MULTILINE)
    assert edited != text
    path.write_text(edited)
    study = copy.deepcopy(STUDY)
    study["runs"]["best"]["train"]["weight_decay"] = 0.0
    write_params(project, study)
    run(project, "studylib", "plan")
    changed = stale(before, plan_files(project))
    assert changed == {"training": ALL - {"best"}, "evaluation": set(), "other": set()}


def plan_files(project: Path) -> dict[str, dict]:
    from studylib.files.atomic import read_json

    plan = project / "results" / "mini" / "plan"
    return {p.relative_to(plan).as_posix(): read_json(p) for p in plan.rglob("*.json")}


def test_adding_a_run_adds_its_file_and_touches_no_other(project):
    write_plan(project, read_params(project / "params.yaml"))
    plan = project / "results" / "mini" / "plan"
    before = {path: path.stat().st_mtime_ns for path in plan.rglob("experiment/*.json")}
    study = copy.deepcopy(STUDY)
    study["runs"]["wide"] = {"loss": {"name": "triplet", "margin": 0.5, "hard_fraction": 1.0}}
    study["study"]["runs"].append("wide")
    write_params(project, study)
    write_plan(project, read_params(project / "params.yaml"))
    after = {path: path.stat().st_mtime_ns for path in plan.rglob("experiment/*.json")}
    assert after.keys() - before.keys() == {plan / "experiment" / "wide.json"}
    assert {path: after[path] for path in before} == before


def test_what_decides_no_weights_retrains_nothing(project):
    before = planned(project)
    study = copy.deepcopy(STUDY)
    study["train"] |= {"checkpoint_seconds": 9.0, "threads": 2, "device": "auto"}
    study["runs"]["triplet"]["evaluate"] = {"backends": ["plda"]}
    write_params(project, study)
    changed = stale(before, planned(project))
    assert changed == {"training": set(), "evaluation": {"triplet"}, "other": set()}


def edit_notebook(path: Path, kind: str) -> None:
    """Add to a cell, and leave outputs behind as Jupyter does."""
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 7
            cell.outputs = [nbformat.v4.new_output("stream", text="hello")]
    for cell in notebook.cells:
        if cell.cell_type == kind:
            cell.source += "\n# more"
            break
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
    assert stale(before, after)["evaluation"] == measured
    assert (before["reports/corpus.json"] != after["reports/corpus.json"]) == report


def test_a_mistake_leaves_the_old_plan_whole(project):
    write_plan(project, read_params(project / "params.yaml"))
    before = plan_files(project)
    study = copy.deepcopy(STUDY)
    study["runs"]["triplet"]["loss"]["margni"] = 0.3
    study["runs"]["softmax"]["train"] = {"crops": 5}
    write_params(project, study)
    with pytest.raises(StudyError, match="unknown key 'margni'"):
        write_plan(project, read_params(project / "params.yaml"))
    assert plan_files(project) == before


def test_initial_weights_are_part_of_their_run_and_must_be_there(project):
    study = copy.deepcopy(STUDY)
    study["runs"]["triplet"]["train"] = {"initial_weights": "start.safetensors"}
    write_params(project, study)
    missing = "run triplet: train.initial_weights: start.safetensors does not exist; first run"
    with pytest.raises(StudyError, match=missing):
        planned(project)
    (project / "start.safetensors").write_bytes(b"some")
    before = planned(project)
    (project / "start.safetensors").write_bytes(b"others")
    assert stale(before, planned(project))["training"] == {"triplet"}


def test_a_training_is_made_of_no_loss_trunk_source_or_measure_but_its_own():
    files = imported_files(ROOT, ["studylib.training.loop"])
    names = {path.relative_to(ROOT / "studylib").as_posix() for path in files}
    assert {"training/sampling.py", "models/embedder.py", "corpora/store.py"} <= names
    rooms = {name.partition("/")[0] for name in names}
    assert rooms <= {"errors.py", "files", "losses", "models", "corpora", "training"}
    assert {name for name in names if name.startswith("losses/")} == {"losses/schedules.py"}
    assert not names & {"models/compact_tdnn.py", "corpora/folder.py", "corpora/audio.py"}


def test_a_face_is_followed_to_the_module_that_defines_the_name(tmp_path):
    package = tmp_path / "studylib"
    for name, text in {
        "room/__init__.py": "from studylib.room.one import a\nfrom studylib.room.two import b\n",
        "room/one.py": "from studylib.base import x\na = x\n",
        "room/two.py": "b = 2\n",
        "base.py": "def x():\n    from studylib.late import y\n",
        "late.py": "y = 1\n",
        "user.py": "from studylib.room import a\n",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    found = {p.relative_to(package).as_posix() for p in imported_files(tmp_path, ["studylib.user"])}
    assert found == {"user.py", "room/one.py", "base.py", "late.py"}
