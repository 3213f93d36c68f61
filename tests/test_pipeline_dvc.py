"""Real DVC on a tiny study: what runs, and what is left alone. The tests build on each other."""

from pathlib import Path

import pytest
from tiny_project import PARAMS, append, copy_project, run, stale

from studylib.errors import StudyError
from studylib.files.atomic import read_json
from studylib.pipeline import experiment
from studylib.pipeline.experiment import eer_line, measure_experiment, open_experiment
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import write_plan


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_corpus):
    """A project whose plan and experiment have been made by DVC."""
    folder = copy_project(tmp_path_factory.mktemp("project"), PARAMS, tiny_corpus.folder)
    run(folder, "dvc", "repro", "experiment")
    return folder


@pytest.fixture(autouse=True)
def _in_project(project, monkeypatch):
    monkeypatch.chdir(project)


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_experiment_by_hand_is_a_variant_and_makes_nothing_stale(project):
    overrides = {"trunk": {"embedding_dim": 8}}
    changes = {"margin": 0.5, "scale": None, "trunk": "xvector", "crops": 8}
    variant = open_experiment("softmax", 3, loss="triplet", changes=changes, overrides=overrides)
    experiment.train_experiment(variant)
    line = eer_line(variant, measure_experiment(variant))
    changed = "loss.margin=0.5+trunk.name=xvector+trunk.embedding_dim=8+train.crops=8"
    assert line.startswith(f"triplet+{changed}-3: EER ")
    manifest = read_json(project / "results/mini/variants" / f"triplet+{changed}-3/manifest.json")
    assert (manifest["run"], manifest["seed"]) == ("triplet", 3)
    assert manifest["settings"]["trunk"]["parameters"]["embedding_dim"] == 8
    assert stale(project) == set()


def test_an_experiment_that_is_there_is_shown_by_hand_and_nothing_is_written(project):
    before = times(project / "results")
    same = open_experiment("triplet", 0, changes={"margin": 0.3})  # as the run has it
    experiment.train_experiment(same)
    assert eer_line(same, measure_experiment(same)).startswith("triplet-0: EER ")
    assert times(project / "results") == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss": "triplte"}, "no run has the loss 'triplte'; did you mean 'triplet'"),
        ({"overrides": {"trian": {}}}, "overrides: unknown key 'trian'; did you mean 'train'"),
        ({"study": "laptpo"}, "studies/laptpo.yaml does not exist"),
    ],
)
def test_a_wrong_value_or_name_is_one_sentence(changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        open_experiment("triplet", 0, **changes)


def test_an_executed_notebook_names_its_place_below_the_project(project):
    copy = "results/mini/notebooks/experiment/triplet-0.ipynb"
    assert f'"output_path": "{copy}"' in (project / copy).read_text()


def test_an_edit_of_evaluation_measures_again_and_retrains_nothing(project):
    folder = project / "results" / "mini" / "experiment" / "triplet-0"
    model, before = times(folder / "model"), read_json(folder / "manifest.json")
    append(project / "studylib" / "evaluation" / "run.py")
    write_plan(project, read_params(project / "params.yaml"))
    assert stale(project) == {"experiment@triplet-0"}
    again = open_experiment("triplet", 0, out="results/mini/experiment/triplet-0")
    experiment.train_experiment(again)
    measure_experiment(again)
    after = read_json(folder / "manifest.json")
    assert times(folder / "model") == model
    assert before["digests"]["training"] == after["digests"]["training"]
    assert before["digests"]["evaluation"] != after["digests"]["evaluation"]
    assert before["files"] == after["files"]


def test_a_baseline_of_the_study_is_measured():
    baseline = experiment.open_baseline("logmel_mean_std")
    line = eer_line(baseline, measure_experiment(baseline))
    assert line.startswith("logmel_mean_std-0: EER ")
