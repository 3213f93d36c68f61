"""What reruns when something changes: the plan's files, compared before and after."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from studylib.errors import StudyError
from studylib.pipeline import plan
from studylib.pipeline.params import read_params
from studylib.pipeline.provenance import imported_files

ROOT = Path(__file__).parent.parent


@pytest.fixture
def copy(tmp_path):
    """The package and the notebooks, in a folder that may be edited."""
    shutil.copytree(ROOT / "studylib", tmp_path / "studylib")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    return tmp_path


def files_of(folder: Path, params: Path = ROOT / "params.yaml") -> dict[str, str]:
    out = folder / "plan"
    plan.write_plan(read_params(params), folder / "studylib", folder / "notebooks", out)
    paths = sorted(out.rglob("*.json"))
    return {path.relative_to(out).as_posix(): path.read_text() for path in paths}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_editing_one_loss_changes_its_own_runs_alone(copy):
    before = files_of(copy)
    with (copy / "studylib" / "losses" / "angular_prototypical.py").open("a") as file:
        file.write("\n# edited\n")
    runs = read_params(ROOT / "params.yaml").runs
    of_loss = {name for name, run in runs.items() if run.loss["name"] == "angular_prototypical"}
    assert changed(before, files_of(copy)) == {f"train/{name}.json" for name in of_loss}


def test_editing_what_all_losses_share_changes_every_run(copy):
    before = files_of(copy)
    with (copy / "studylib" / "losses" / "common.py").open("a") as file:
        file.write("\n# edited\n")
    assert changed(before, files_of(copy)) == {n for n in before if n.startswith("train/")}


def test_adding_a_run_adds_its_file_alone(copy):
    before = files_of(copy)
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("  runs:\n", "  runs:\n    - triplet_wide\n", 1)
    text += "  triplet_wide:\n    loss: {name: triplet, margin: 0.5, hard_fraction: 1.0}\n"
    (copy / "params.yaml").write_text(text)
    added = {f"{stage}/triplet_wide.json" for stage in ("train", "evaluate")}
    assert changed(before, files_of(copy, copy / "params.yaml")) == added


def test_a_run_s_own_way_of_being_measured_changes_its_evaluation_alone(copy):
    before = files_of(copy)
    text = (ROOT / "params.yaml").read_text()
    text = text.replace("  ge2e:\n", "  ge2e:\n    evaluate: {backends: [plda]}\n", 1)
    (copy / "params.yaml").write_text(text)
    after = files_of(copy, copy / "params.yaml")
    assert changed(before, after) == {"evaluate/ge2e.json"}
    assert json.loads(after["evaluate/ge2e.json"])["backends"] == ["plda"]


def test_opening_and_saving_a_notebook_changes_nothing(copy):
    before = files_of(copy)
    path = copy / "notebooks" / "train.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["language_info"] = {"name": "python", "version": "3.12"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 7
            cell.outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(notebook, path)
    assert changed(before, files_of(copy)) == set()


def test_editing_a_notebook_s_code_changes_its_file_and_editing_its_prose_only_a_report(copy):
    before = files_of(copy)
    for name, kind in (("train", "markdown"), ("evaluate", "code"), ("corpus", "markdown")):
        path = copy / "notebooks" / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        next(cell for cell in notebook.cells if cell.cell_type == kind).source += "\n# more"
        nbformat.write(notebook, path)
    expected = {"notebooks/evaluate.json", "notebooks/corpus.json"}
    assert changed(before, files_of(copy)) == expected


def test_a_report_s_settings_are_in_its_file_alone_and_there_without_a_section(copy):
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    (copy / "params.yaml").write_text(yaml.safe_dump(document))
    before = files_of(copy, copy / "params.yaml")
    document["report"]["embeddings"]["runs"] = ["softmax"]
    (copy / "params.yaml").write_text(yaml.safe_dump(document))
    edited = files_of(copy, copy / "params.yaml")
    assert changed(before, edited) == {"reports/embeddings.json"}
    del document["report"]
    (copy / "params.yaml").write_text(yaml.safe_dump(document))
    assert files_of(copy, copy / "params.yaml").keys() == before.keys()


def test_a_mistake_in_one_run_leaves_the_old_plan_whole(copy):
    before = files_of(copy)
    text = (ROOT / "params.yaml").read_text().replace("alpha: 6.25", "alhpa: 6.25")
    (copy / "params.yaml").write_text(text)
    with pytest.raises(StudyError, match="unknown key 'alhpa'"):
        files_of(copy, copy / "params.yaml")
    paths = sorted((copy / "plan").rglob("*.json"))
    assert {p.relative_to(copy / "plan").as_posix(): p.read_text() for p in paths} == before


def test_a_plan_file_holds_the_settings_and_the_sources(copy):
    ingredients = json.loads(files_of(copy)["train/triplet.json"])
    assert ingredients["settings"]["loss"]["name"] == "triplet"
    assert {"losses/triplet.py", "losses/common.py", "trunks/compact_tdnn.py"} <= set(
        ingredients["source"]
    )


def test_initial_weights_are_part_of_their_runs_and_must_be_there(copy, monkeypatch):
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    document["runs"]["triplet"]["train"] = {"initial_weights": "start.safetensors"}
    (copy / "params.yaml").write_text(yaml.safe_dump(document))
    (copy / "dvc.yaml").touch()
    monkeypatch.chdir(copy)
    missing = "run triplet: train.initial_weights: start.safetensors does not exist; first run"
    with pytest.raises(StudyError, match=missing):
        files_of(copy, copy / "params.yaml")
    (copy / "start.safetensors").write_bytes(b"some")
    before = files_of(copy, copy / "params.yaml")
    (copy / "start.safetensors").write_bytes(b"others")
    assert changed(before, files_of(copy, copy / "params.yaml")) == {"train/triplet.json"}


# What computes or draws the numbers of a report; other modules read, check, and name things.
DECIDES = {
    "batch_size", "bootstrap", "comparisons", "embeddings", "geometry", "metrics", "questions",
    "resampling", "results", "robustness", "scoring", "statistics", "survival", "trunk_table",
    "verdicts",
}  # fmt: skip


@pytest.mark.parametrize("name", ["losses", "batch_size", "embeddings", "robustness"])
def test_a_report_depends_on_every_module_that_decides_what_it_shows(name, tmp_path):
    code = "\n".join(
        cell.source
        for cell in nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4).cells
        if cell.cell_type == "code"
    )
    (tmp_path / "code.py").write_text(code)
    imported = imported_files(tmp_path / "code.py", ROOT / "studylib")
    needed = {path.stem for path in imported if path.parent.name == "studylib"} & DECIDES
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][name]
    deps = {Path(dep).stem for dep in stage["deps"] if dep.startswith("studylib/")}
    assert needed <= deps
