"""The training loop: the same bits whatever happens on the way, and a clear end when it fails."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file
from trees import voice, write

from studylib.corpora.hygiene import known_speakers
from studylib.corpora.synthetic.embedded import prepare
from studylib.errors import StudyError
from studylib.losses import LOSSES
from studylib.models.trunks import TRUNKS
from studylib.pipeline.params import read_params, run_settings
from studylib.training.loading import prefetch, training_data
from studylib.training.loop import train
from studylib.training.settings import Component, RunSettings

ROOT = Path(__file__).parent.parent
QUICK = {"speakers_per_batch": 6, "utterances_per_speaker": 2, "threads": 1}


def settings_of(loss: dict, **train_keys) -> RunSettings:
    return RunSettings(
        study="test",
        name="run",
        corpus={"name": "tiny", "source": "embedded"},
        loss=loss,
        trunk={"name": "compact_tdnn", "embedding_dim": 16, "channels": 8},
        train={"crops": 360, "crop_seconds": 0.5, **QUICK, **train_keys},
    )


AUGMENTATION = {"noise_chance": 0.7, "room_chance": 0.5}
TRIPLET = {"name": "triplet", "margin": 0.3, "hard_fraction": 0.5}


def run(settings: RunSettings, corpus, folder: Path, seed: int = 0) -> dict[str, torch.Tensor]:
    said: list[str] = []
    out = folder / "out"
    train(settings, corpus, seed, out, checkpoints=folder / "checkpoints", report=said.append)
    return load_file(out / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_the_same_run_twice_gives_the_same_bits_and_another_seed_does_not(tiny_corpus, tmp_path):
    settings = settings_of(TRIPLET)
    first = run(settings, tiny_corpus, tmp_path / "a")
    assert_same(first, run(settings, tiny_corpus, tmp_path / "b"))
    other = run(settings, tiny_corpus, tmp_path / "c", seed=1)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


KILLED = """
import os, signal, sys
from pathlib import Path
from studylib.training import loop as training
from studylib.training.settings import RunSettings
from studylib.corpora.store import open_corpus

saves = 0
save = training._Loop._save_checkpoint

def save_and_die(self):
    global saves
    save(self)
    saves += 1
    if saves == 3:
        os.kill(os.getpid(), signal.SIGKILL)

training._Loop._save_checkpoint = save_and_die
settings = RunSettings.model_validate_json(sys.argv[1])
folder = Path(sys.argv[3])
training.train(settings, open_corpus(Path(sys.argv[2])), 0, folder / "out",
               checkpoints=folder / "checkpoints")
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
@pytest.mark.parametrize("augmentation", [None, AUGMENTATION], ids=["plain", "augmented"])
def test_a_run_killed_with_kill_9_goes_on_and_ends_with_the_same_bits(
    tiny_corpus, tmp_path, augmentation
):
    settings = settings_of(
        TRIPLET, crops=120, checkpoint_seconds=1e-6, measurements=2, augmentation=augmentation
    )
    undisturbed = run(settings, tiny_corpus, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, settings.model_dump_json()]
    killed = subprocess.run([*command, tiny_corpus.folder, tmp_path / "cut"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "out").exists()
    resumed = run(settings, tiny_corpus, tmp_path / "cut")
    assert_same(undisturbed, resumed)
    curves = [pd.read_csv(tmp_path / name / "out" / "curve.csv") for name in ("whole", "cut")]
    columns = ["crops", "loss", "dev_eer"]
    pd.testing.assert_frame_equal(curves[0][columns], curves[1][columns])
    assert not list((tmp_path / "cut" / "checkpoints").iterdir())


def test_augmentation_repeats_and_changes_the_run_unless_it_does_nothing(tiny_corpus, tmp_path):
    def trained(name, augmentation):
        settings = settings_of(TRIPLET, crops=60, augmentation=augmentation)
        return run(settings, tiny_corpus, tmp_path / name)

    plain, augmented = trained("plain", None), trained("a", AUGMENTATION)
    assert_same(augmented, trained("b", AUGMENTATION))
    assert not torch.equal(plain["fc.weight"], augmented["fc.weight"])
    assert_same(plain, trained("c", {"noise_chance": 0.0, "room_chance": 0.0, "equaliser": 0.0}))


def test_noise_is_read_from_a_folder_of_the_project(tiny_corpus, tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    write(tmp_path / "noise" / "hum.wav", voice("hum"))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    settings = settings_of(TRIPLET, crops=12, augmentation={"noise_folder": "noise"})
    run(settings, tiny_corpus, tmp_path)
    missing = settings_of(TRIPLET, crops=12, augmentation={"noise_folder": "nosie"})
    with pytest.raises(StudyError, match="nosie has no recordings"):
        run(missing, tiny_corpus, tmp_path)


def test_a_model_keeps_whom_it_knows_and_whom_its_initial_weights_knew(
    tiny_corpus, tmp_path, monkeypatch
):
    def known(name):
        return json.loads((tmp_path / name / "out" / "known_speakers.json").read_text())

    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    run(settings_of(TRIPLET, crops=12), tiny_corpus, tmp_path / "first")
    assert known("first") == [known_speakers(tiny_corpus)]
    tuned = settings_of(TRIPLET, crops=12, initial_weights="first/out/model.safetensors")
    run(tuned, tiny_corpus, tmp_path / "tuned")
    assert known("tuned") == 2 * [known_speakers(tiny_corpus)]
    run(settings_of(TRIPLET, crops=0), tiny_corpus, tmp_path / "untrained")
    assert known("untrained") == []


def test_initial_weights_of_another_trunk_are_one_sentence(tiny_corpus, tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    run(settings_of(TRIPLET, crops=0), tiny_corpus, tmp_path / "first")
    start = "first/out/model.safetensors"
    wider = settings_of(TRIPLET, crops=12, initial_weights=start).model_copy(
        update={"trunk": Component(name="compact_tdnn", parameters={"channels": 16})}
    )
    with pytest.raises(StudyError, match=r"initial_weights: .* holds the trunk compact_tdnn with"):
        run(wider, tiny_corpus, tmp_path / "wider")


def test_a_loss_that_is_not_finite_names_itself_the_step_and_the_rate(tiny_corpus, tmp_path):
    settings = settings_of({"name": "softmax"}, learning_rate=1e38, optimizer="sgd")
    with pytest.raises(StudyError, match=r"loss softmax is (nan|inf) at step \d+ of 30, .*1e\+38"):
        run(settings, tiny_corpus, tmp_path)
    assert not (tmp_path / "out").exists()


def test_every_loss_starts_from_the_same_trunk(tiny_corpus, tmp_path):
    weights = [
        run(settings_of(loss, crops=0), tiny_corpus, tmp_path / loss["name"])
        for loss in ({"name": "softmax"}, {"name": "angular_prototypical"}, TRIPLET)
    ]
    assert_same(weights[0], weights[1])
    assert_same(weights[0], weights[2])


def test_the_loop_lowers_the_loss_on_the_speakers_it_learns(tiny_corpus, tmp_path):
    settings = settings_of({"name": "angular_prototypical"}, crops=1800, learning_rate=0.01)
    run(settings, tiny_corpus, tmp_path)
    curve = pd.read_csv(tmp_path / "out" / "curve.csv")
    assert curve["loss"].tail(20).mean() < 0.8 * curve["loss"].head(10).mean()


def test_a_schedule_is_set_on_the_loss_by_crops_seen(tiny_corpus, tmp_path):
    margin = {"initial": 0.0, "final": 0.4, "begins": 0.5, "shape": "step"}
    settings = settings_of({"name": "am_softmax", "margin": margin, "scale": 15.0})
    run(settings, tiny_corpus, tmp_path)
    curve = pd.read_csv(tmp_path / "out" / "curve.csv")
    half = curve["crops"] < 180
    assert set(curve.loc[half, "margin"]) == {0.0}
    assert set(curve.loc[~half, "margin"]) == {0.4}


def test_the_best_weights_on_development_speakers_are_kept_if_asked(tiny_corpus, tmp_path):
    settings = settings_of(TRIPLET, measurements=5, keep="best", learning_rate=0.5)
    best = run(settings, tiny_corpus, tmp_path / "best")
    last = run(settings_of(TRIPLET, measurements=5, learning_rate=0.5), tiny_corpus, tmp_path / "l")
    curve = pd.read_csv(tmp_path / "best" / "out" / "curve.csv")
    is_last_best = curve["dev_eer"].dropna().idxmin() == curve["dev_eer"].dropna().index[-1]
    assert all(torch.equal(best[k], last[k]) for k in best) == is_last_best


def test_more_speakers_a_batch_than_there_are_is_one_sentence(tiny_corpus, tmp_path):
    with pytest.raises(StudyError, match="speakers_per_batch is 64, but only 12"):
        run(settings_of(TRIPLET, speakers_per_batch=64), tiny_corpus, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("keys", "seed", "sentence"),
    [
        ({"chunk_crops": 1}, 0, "in 12 chunks leaves one crop alone.* another train.chunk_crops"),
        ({"speakers_per_batch": 1, "utterances_per_speaker": 1}, 0, "of 1 crops in 1 chunks"),
        ({}, -1, "the seed is -1: expected 0 or more"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tiny_corpus, tmp_path, keys, seed, sentence):
    with pytest.raises(StudyError, match=sentence):
        run(settings_of({"name": "softmax"}, **keys), tiny_corpus, tmp_path, seed)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_too_little_memory_is_one_sentence_that_names_the_keys(
    tiny_corpus, tmp_path, monkeypatch, error
):
    def too_much(*_):
        raise error

    monkeypatch.setattr("studylib.training.loop.TrainingStep.__call__", too_much)
    with pytest.raises(StudyError, match=r"does not hold a step: .* train\.chunk_crops"):
        run(settings_of({"name": "softmax"}), tiny_corpus, tmp_path)


def test_the_first_training_speakers_are_those_of_a_smaller_corpus(tiny_corpus, tmp_path):
    few = TINY.model_copy(update={"n_train_speakers": 9, "n_dev_speakers": 2, "n_test_speakers": 2})
    smaller = prepare(few, tmp_path / "corpus", workers=1, progress=False)
    first = run(settings_of(TRIPLET, training_speakers=9), tiny_corpus, tmp_path / "first")
    assert_same(first, run(settings_of(TRIPLET), smaller, tmp_path / "smaller"))
    known = json.loads((tmp_path / "first" / "out" / "known_speakers.json").read_text())
    assert known[0]["train"] == known_speakers(smaller)["train"]
    assert known[0]["dev"] == known_speakers(tiny_corpus)["dev"]
    with pytest.raises(StudyError, match=r"training_speakers is 13, but .* has only 12 training"):
        run(settings_of(TRIPLET, training_speakers=13), tiny_corpus, tmp_path)


def test_training_speakers_are_taken_in_the_corpus_s_order_and_labelled_in_that_of_names():
    table = pd.DataFrame({"speaker": list("dbbcdac"), "split": ["train"] * 6 + ["dev"]})
    corpus = SimpleNamespace(utterances=table, folder="data/made-up")
    data = training_data(corpus, 2)
    assert data.names.tolist() == ["b", "d"]
    assert data.rows.tolist() == [0, 1, 2, 4]
    assert data.speakers.tolist() == [1, 0, 0, 1]
    for every in (training_data(corpus), training_data(corpus, 4)):
        assert every.names.tolist() == ["a", "b", "c", "d"]
        assert every.rows.tolist() == list(range(6))
        assert every.speakers.tolist() == [3, 1, 1, 2, 3, 0]


def test_a_failure_while_gathering_reaches_the_loop():
    def broken():
        yield 1
        raise OSError("disk gone")

    items = prefetch(broken())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(items)


def test_prefetch_gives_the_same_items_in_order():
    assert list(prefetch(iter(range(1000)))) == list(range(1000))


def test_every_loss_of_the_default_study_trains_and_ends_with_finite_weights(tiny_corpus, tmp_path):
    runs = read_params(ROOT / "params.yaml").runs
    assert {entry.loss["name"] for entry in runs.values()} <= LOSSES.keys()
    for name, entry in runs.items():
        weights = run(settings_of(entry.loss, crops=36), tiny_corpus, tmp_path / name)
        assert all(value.isfinite().all() for value in weights.values()), name


@pytest.mark.parametrize("name", TRUNKS)
def test_every_trunk_trains_on_the_embedded_corpus_by_its_name_alone(tiny_corpus, tmp_path, name):
    params = read_params(ROOT / "params.yaml")
    quick = {"crops": 24, "crop_seconds": 0.5, "measurements": 0, "learning_rate": 0.01, **QUICK}
    params = params.model_copy(update={"trunk": {"embedding_dim": 16}})
    settings = run_settings(params, "angular_prototypical", {"trunk": name, **quick})
    trained = run(settings, tiny_corpus, tmp_path)
    torch.manual_seed(0)
    start = TRUNKS[name](embedding_dim=16).state_dict()
    weights = [key for key in start if key.endswith(("weight", "original1"))]
    assert all(trained[key].isfinite().all() for key in weights)
    assert not any(torch.equal(trained[key], start[key]) for key in weights)
