"""A parameter file gives full settings; every mistake is one sentence that names its place."""

from pathlib import Path

import pytest

from studylib.corpora.sources import check_settings
from studylib.errors import StudyError
from studylib.losses.schedules import Schedule
from studylib.pipeline.experiment import variant_name
from studylib.pipeline.params import Changes, read_params, run_settings
from studylib.pipeline.plan import plan_documents

ROOT = Path(__file__).parent.parent

DOCUMENT = """
study: {name: small, runs: [am, triplet], seeds: [0], baselines: []}
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


def test_a_run_takes_shared_keys_then_its_own_then_changes_then_defaults(write):
    changes = Changes(loss={"scale": 15}, train={"crops": 50})
    settings = run_settings(read_params(write()), "am", changes)
    assert settings.train.utterances_per_speaker == 1
    assert settings.train.speakers_per_batch == 4
    assert settings.train.crops == 50
    assert settings.loss.parameters == {
        "margin": Schedule(initial=0.0, final=0.2, ends=0.5),
        "scale": 15,
    }
    assert settings.trunk.parameters["embedding_dim"] == 32
    assert settings.trunk.parameters["channels"] == 192  # of the constructor
    assert run_settings(read_params(write()), "triplet").loss.parameters["form"] == "hinge"


def test_another_trunk_takes_no_keys_of_the_one_before(write):
    params = read_params(write())
    settings = run_settings(params, "am", Changes(trunk={"name": "xvector"}))
    assert settings.trunk.name == "xvector"
    assert settings.trunk.parameters["embedding_dim"] == 512
    same = run_settings(params, "am", Changes(trunk={"name": "compact_tdnn", "channels": 8}))
    assert (same.trunk.parameters["embedding_dim"], same.trunk.parameters["channels"]) == (32, 8)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("crops: 100", "crosp: 100", "unknown key 'train.crosp'; did you mean 'crops'"),
        ("crops: 100, ", "", "the key 'train.crops' is missing"),
        ("speaker: 2", "speaker: 1", r"utterances_per_speaker is 1.*triplet.*at least 2"),
        ("scale: 30}", "scale: 30}\n    evaluate: {trials: [dev]}", "am: evaluate.trials.* same"),
        ("seeds: [0]", "seeds: [0, 0]", "study.seeds: 0 is named twice"),
        ("  triplet:\n", "  am:\n", "line 11: the key 'am' occurs twice"),
        ("learning_rate: 0.01", "learning_rate: .inf", "line 5: .inf is no finite number"),
        ("learning_rate: 0.01", "learning_rate: -0.01", "learning_rate: expected 0 or more"),
        ("0.01", "{start: 1, final: 2}", r"train.learning_rate: expected .* \{initial: 0.1, fin"),
        ("0.01", '0.01, crop_seconds: "2"', "train.crop_seconds: Input should be a valid number"),
        ("0.01", "0.01, device: cuda:x", "train.device: String should match pattern"),
        ("batch: 4", "batch: 6400", "am: train asks for 6400 speakers: expected at most 350"),
        ("baselines: []", "baselines: [logmel_whitend]", "did you mean 'logmel_w"),
        ("name: small", "name: ../small", "study.name: String should match pattern"),
        ("embedded}", "embedded, settings: {n_dev_speakers: 1000000000000}}", "n_dev_speakers: .*"),
        ("  triplet:\n", "  logmel_whitened:\n", "expected another name than a baseline's"),
        ("  triplet:\n", "  3:\n", "line 11: expected a text, perhaps in quotes, as key"),
        ("[test]", "[test], also: [tiny]", "evaluate.also names tiny, the study's own corpus"),
        ("[test]", "2020-02-30", "line 6: day is out of range for month"),
        (", scale: 30", "", "run am: the key 'loss.scale' is missing"),
        ("scale: 30", "scale: abc", "loss.scale: expected a number, or .*given: 'abc'"),
        ("final: 0.2", "final: 9.0", "run am: am_softmax: margin is .* below 2, got 9.0"),
        ("embedding_dim: 32", "normalise: none", "compact_tdnn: normalise: 'none' is not one of"),
        ("ends: 0.5", "ends: 1.5", "expected 0 <= begins <= ends <= 1"),
        ("name: compact_tdnn", "name: compact_tdn", "trunk.name: 'compact_tdn'; did you mean"),
        ("embedding_dim: 32", "embedding_dim: -5", "trunk.embedding_dim: .*greater than 0"),
        ("runs:\n", "report: {embeddings: {runs: [ma]}}\nruns:\n", "embeddings.runs names 'ma'"),
        ("0.01", "0.01, augmentation: {nosie_chance: 1}", "nosie_chance'; did you mean 'noise"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(write, old, new, sentence):
    path = write(old, new)
    with pytest.raises(StudyError, match=sentence) as caught:
        plan_documents(ROOT, read_params(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", [ROOT / "params.yaml", *sorted((ROOT / "studies").glob("*.yaml"))], ids=lambda p: p.stem
)
def test_every_study_of_the_project_is_valid_down_to_the_keys_of_its_source(path):
    params = read_params(path)
    for name in params.runs:
        run_settings(params, name)
    check_settings(params.corpus.source, params.corpus.settings)


def test_paper_b_s_learning_rate_falls_by_a_twentieth_every_10_of_500_epochs():
    train = read_params(ROOT / "studies" / "voxceleb.yaml").train
    assert train["crops"] == 500 * 100 * 5_994
    schedule = Schedule(**train["learning_rate"])
    for epoch in (0, 9.99, 10, 250, 255, 499.99):
        expected = 0.001 * 0.95 ** (epoch // 10)
        assert schedule.at(epoch / 500) == pytest.approx(expected, rel=1e-9)


def test_two_variants_of_long_names_have_two_folders():
    changes = [Changes(train={f"key{number}": 1 for number in range(last)}) for last in (40, 41)]
    names = {variant_name("triplet", each) for each in changes}
    assert len(names) == 2
    assert max(map(len, names)) < 200
