"""Real DVC on a tiny study: what runs, and what is left alone. The tests build on each other."""

import copy
import json
import shutil
import time
from pathlib import Path

import psutil
import pytest
from tiny_project import PARAMS, append, copy_project, finish, run, start, write_params

from studylib.errors import StudyError
from studylib.pipeline.experiment import open_experiment
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import write_plan


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_corpus):
    folder = copy_project(tmp_path_factory.mktemp("project"))
    shutil.copytree(tiny_corpus.folder, folder / "data" / "tiny")
    run(folder, "dvc", "repro", "--quiet", "experiment", "baseline")
    return folder


def stale(project: Path) -> set[str]:
    write_plan(project, read_params(project / "params.yaml"))
    return set(json.loads(run(project, "dvc", "status", "--json", "experiment", "baseline")))


def by_hand(project: Path, *parameters: str):
    words = ["papermill", "notebooks/experiment.ipynb", "out.ipynb", "--log-output"]
    return finish(start(project, *words, "--no-progress-bar", *parameters))


def times(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_an_experiment_by_hand_is_a_variant_and_makes_nothing_stale(project):
    words = ["-p", "loss", "triplet", "-p", "seed", "3", "-p", "margin", "0.5", "-p", "crops", "24"]
    done = by_hand(
        project, *words, "-y", "{trunk: xvector, overrides: {trunk: {embedding_dim: 8}}}"
    )
    assert done.returncode == 0, done.stderr
    name = "triplet+margin=0.5+trunk=xvector+crops=24+trunk.embedding_dim=8-3"
    assert f"{name}: EER " in done.stderr
    manifest = json.loads((project / "results/mini/variants" / name / "manifest.json").read_text())
    assert (manifest["run"], manifest["seed"]) == ("triplet", 3)
    assert manifest["settings"]["trunk"]["parameters"]["embedding_dim"] == 8
    assert stale(project) == set()


def test_an_experiment_that_is_there_is_shown_by_hand_and_nothing_is_written(project):
    before = times(project / "results")
    done = by_hand(project, "-p", "loss", "triplet", "-p", "margin", "0.3")  # as the run has it
    assert "\ntriplet-0: EER " in done.stderr
    assert times(project / "results") == before


def test_a_wrong_value_or_name_is_one_sentence(project, monkeypatch):
    monkeypatch.chdir(project)
    for changes, sentence in [
        ({"loss": "triplet", "changes": {"margin": "abc"}}, "loss: margin: .*given: 'abc'"),
        ({"loss": "triplte"}, "no run has the loss 'triplte'; did you mean 'triplet'"),
        ({"overrides": {"trian": {}}}, "overrides: unknown key 'trian'; did you mean 'train'"),
        ({"overrides": {"train": {"crosp": 1}}}, "unknown key 'train.crosp'; did you mean 'crops'"),
        ({"changes": {"trunk": "xvektor"}}, "trunk is named 'xvektor'; did you mean 'xvector'"),
        ({"study": "laptpo"}, "no parameter file is of the study 'laptpo'"),
    ]:
        with pytest.raises(StudyError, match=sentence):
            open_experiment("softmax", 0, **changes)


def test_an_edit_of_evaluation_measures_again_and_retrains_nothing(project):
    results = project / "results" / "mini" / "experiment"
    models = {name: times(results / name / "model") for name in ("softmax-0", "triplet-0")}
    before = json.loads((results / "triplet-0" / "manifest.json").read_text())
    append(project / "studylib" / "evaluation" / "run.py")
    everything = {"experiment@softmax-0", "experiment@triplet-0", "baseline@logmel_mean_std"}
    assert stale(project) == everything
    run(project, "dvc", "repro", "--quiet", "experiment@triplet-0")
    assert {name: times(results / name / "model") for name in models} == models
    after = json.loads((results / "triplet-0" / "manifest.json").read_text())
    assert before["digests"]["training"] == after["digests"]["training"]
    assert before["digests"]["evaluation"] != after["digests"]["evaluation"]
    assert before["files"] == after["files"]
    assert stale(project) == everything - {"experiment@triplet-0"}


def test_only_an_added_run_and_the_runs_of_an_edited_loss_are_stale(project):
    before = stale(project)
    study = copy.deepcopy(PARAMS)
    study["runs"]["wide"] = {"loss": {"name": "contrastive", "margin": 0.5}}
    study["study"]["runs"] = list(study["runs"])
    write_params(project, study)
    append(project / "studylib" / "losses" / "triplet.py")
    assert stale(project) - before == {"experiment@wide-0", "experiment@triplet-0"}


def test_a_killed_pipeline_leaves_no_training_behind_and_its_run_survives_another_loss_s_edit(
    project,
):
    study = copy.deepcopy(PARAMS)
    study["runs"]["softmax"]["train"] = {"crops": 6000}
    write_params(project, study)
    words = ["dvc", "repro", "--quiet", "experiment@softmax-0"]
    pipeline = start(project, *words)
    until = time.monotonic() + 300
    while not list(project.glob(".checkpoints/softmax-0-*/step-*.pt")):
        assert time.monotonic() < until
        assert pipeline.poll() is None, pipeline.communicate()
        time.sleep(0.02)
    started = psutil.Process(pipeline.pid).children(recursive=True)
    assert len(started) >= 2  # the command and its kernel
    pipeline.kill()
    pipeline.communicate()
    assert not psutil.wait_procs(started, timeout=120)[1]
    append(project / "studylib" / "losses" / "triplet.py", "\n# once more\n")
    done = finish(start(project, "dvc", "repro", "experiment@softmax-0"))
    assert done.returncode == 0, done.stderr
    assert "going on from step" in done.stdout
