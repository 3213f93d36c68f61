"""Every mistake in a parameter file is told in one sentence that names its place."""

from pathlib import Path

import pytest
import yaml

from studylib.corpora.sources import check_settings
from studylib.errors import StudyError
from studylib.losses.schedules import Schedule
from studylib.pipeline.params import (
    evaluate_settings,
    notebook_parameters,
    overridden,
    read_params,
    run_settings,
)
from studylib.reports.settings import check_batch_size

ROOT = Path(__file__).parent.parent

DOCUMENT = """
study: {name: small, runs: [am, triplet], seeds: [0]}
corpus: {name: tiny, source: embedded}
trunk: {name: compact_tdnn, embedding_dim: 32}
train: {crops: 100, speakers_per_batch: 4, utterances_per_speaker: 2, learning_rate: 0.01}
evaluate: {trials: [test]}
runs:
  am:
    loss: {name: am_softmax, margin: {initial: 0.0, final: 0.2, ends: 0.5}, scale: 30}
    train: {utterances_per_speaker: 1}
  triplet:
    loss: {name: triplet, margin: 0.3, hard_fraction: 1.0}
"""


@pytest.fixture
def write(tmp_path):
    def write(old: str = "", new: str = "") -> Path:
        assert old in DOCUMENT
        path = tmp_path / "params.yaml"
        path.write_text(DOCUMENT.replace(old, new) if old else DOCUMENT)
        return path

    return write


def test_a_run_takes_shared_keys_then_its_own_then_overrides(write):
    params = read_params(write())
    settings = run_settings(params, "am", {"scale": 15, "crops": 50})
    assert settings.train.utterances_per_speaker == 1
    assert settings.train.speakers_per_batch == 4
    assert settings.train.crops == 50
    assert settings.loss.parameters["scale"] == 15
    assert settings.loss.parameters["margin"] == Schedule(initial=0.0, final=0.2, ends=0.5)
    assert settings.name == "am+scale=15+crops=50"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("crops: 100", "crosp: 100", "unknown key 'train.crosp'; did you mean 'crops'"),
        ("crops: 100, ", "", "the key 'train.crops' is missing"),
        ("crops: 100", "crops: -5", "train.crops.*greater than or equal to 0.*-5"),
        ("seeds: [0]", "sedes: [0]", "unknown key 'study.sedes'; did you mean 'seeds'"),
        ("scale: 30", "scael: 30", "loss: unknown key 'scael'; did you mean 'scale'"),
        (", scale: 30", "", "run am: loss: the key 'scale' is missing"),
        ("final: 0.2", "finla: 0.2", "finla"),
        ("name: compact_tdnn", "name: compact_tdn", "trunk is named 'compact_tdn'; did you mean"),
        ("name: am_softmax", "name: am_sofmax", "loss is named 'am_sofmax'; did you mean"),
        ("embedding_dim: 32", "embedding_dims: 32", "trunk: unknown key 'embedding_dims'"),
        ("runs: [am, triplet]", "runs: [am, triplets]", "names the run 'triplets'; did you mean"),
        (
            "crops: 100,",
            "crops: 100, augmentation: {nosie_chance: 1},",
            "run am: train.augmentation: unknown key 'nosie_chance'; did you mean 'noise_chance'",
        ),
        ("crops: 100,", "crops: 100, augmentation: {snr: [20, 10]},", "snr is .lowest, highest"),
        ("  am:\n", "  am\n", "line 9: not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(write, old, new, sentence):
    path = write(old, new)
    with pytest.raises(StudyError, match=sentence) as caught:
        run_settings(read_params(path), "am")
    assert "\n" not in str(caught.value)


def test_one_utterance_per_speaker_is_refused_for_a_metric_loss(write):
    params = read_params(write("utterances_per_speaker: 2", "utterances_per_speaker: 1"))
    with pytest.raises(StudyError, match=r"utterances_per_speaker is 1.*triplet.*at least 2"):
        run_settings(params, "triplet")


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(StudyError, match="does not exist"):
        read_params(tmp_path / "nothing.yaml")


def test_a_parameter_that_the_notebook_does_not_have_is_refused():
    namespace = {"loss": None, "seed": 0, "los": "triplet", "In": [], "_": 1, "yaml": yaml}
    with pytest.raises(StudyError, match="unknown parameter 'los'; did you mean 'loss'"):
        notebook_parameters(namespace, ["loss", "seed"])
    del namespace["los"]
    assert notebook_parameters(namespace, ["loss", "seed"]) == {"loss": None, "seed": 0}


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "studies").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_every_study_of_the_project_is_valid_down_to_the_keys_of_its_source(path):
    params = read_params(path)
    runs = {name: run_settings(params, name) for name in params.runs}
    check_batch_size(params.report.batch_size, runs)
    check_settings(params.corpus.source, params.corpus.settings)


def test_paper_b_s_learning_rate_falls_by_a_twentieth_every_10_of_500_epochs():
    train = read_params(ROOT / "studies" / "voxceleb.yaml").train
    assert train["crops"] == 500 * 100 * 5_994
    schedule = Schedule(**train["learning_rate"])
    for epoch in (0, 9.99, 10, 250, 255, 499.99):
        expected = 0.001 * 0.95 ** (epoch // 10)
        assert schedule.at(epoch / 500) == pytest.approx(expected, rel=1e-9)


def test_a_run_may_be_measured_in_its_own_way(write):
    path = write("scale: 30}", "scale: 30}\n    evaluate: {backends: [plda], crops: 5}")
    params = read_params(path)
    own = evaluate_settings(params, "am")
    assert (own.backends, own.crops, own.trials) == (["plda"], 5, ["test"])
    assert evaluate_settings(params, "am+margin=0.3") == own
    assert evaluate_settings(params, "triplet") == params.evaluate


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ("{backend: [plda]}", "run am: evaluate: unknown key 'backend'; did you mean 'backends'"),
        ("{backends: [lda]}", "run am: evaluate: backends.0: .* 'plda'"),
        ("{backends: [plda, plda]}", "run am: evaluate: backends names one of plda, plda twice"),
        ("{trials: [dev]}", "run am: evaluate.trials .* all runs are compared on the same trials"),
    ],
)
def test_a_mistake_in_how_a_run_is_measured_is_told(write, evaluate, message):
    path = write("scale: 30}", f"scale: 30}}\n    evaluate: {evaluate}")
    with pytest.raises(StudyError, match=message):
        evaluate_settings(read_params(path), "am")


def test_a_notebook_s_own_values_replace_those_of_the_file_and_are_checked(write):
    path = write("runs:\n", "report: {robustness: {lengths: [1, 2]}}\nruns:\n")
    section = read_params(path).report.robustness
    changed = overridden(section, {"lengths": None, "n_speakers": 7}, "robustness")
    assert (changed.lengths, changed.n_speakers) == ([1, 2], 7)
    with pytest.raises(StudyError, match=r"robustness: n_speakers: .* \(given: 0\)"):
        overridden(section, {"n_speakers": 0}, "robustness")
    with pytest.raises(StudyError, match=r"unknown key 'report\.robustnes'"):
        read_params(write("runs:\n", "report: {robustnes: {}}\nruns:\n"))
