"""The training loop: the same bits whatever happens on the way, and a clear end when it fails."""

import json
import os
import shutil
import signal
import threading
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest
import torch
import training_runs
from conftest import full_disk
from safetensors.torch import load_file
from tiny_project import ROOT, start
from training_runs import AP, assert_same, in_float64, settings_of, train_run, trained
from trees import files_of

from studylib.corpora.hygiene import known_speakers
from studylib.errors import StudyError
from studylib.files import disk
from studylib.files.disk import exclusive
from studylib.losses.schedules import Schedule
from studylib.training import checkpoints, loop

SOFTMAX = {"name": "softmax"}
TRIPLET = {"name": "triplet", "margin": 0.3, "hard_fraction": 0.5}
MODEL_FILES = "model.safetensors", "loss.safetensors"
SAVING = {"crops": 120, "checkpoint_seconds": 1e-6, "measurements": 2}


def curve_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "model" / "curve.csv")


# ------------------------------------------------------------------------------- the same bits


def test_the_same_run_twice_gives_the_same_files_and_another_seed_does_not(tiny_corpus, tmp_path):
    first = trained(settings_of(TRIPLET), tiny_corpus, tmp_path / "a")
    trained(settings_of(TRIPLET), tiny_corpus, tmp_path / "b")
    names = {path.name for path in (tmp_path / "a" / "model").iterdir()}
    assert names == {*MODEL_FILES, "curve.csv", "known_speakers.json", "training.json"}
    for name in names:
        paths = [tmp_path / folder / "model" / name for folder in ("a", "b")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
    other = trained(settings_of(TRIPLET), tiny_corpus, tmp_path / "c", seed=1)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_a_run_killed_with_kill_9_goes_on_and_ends_with_the_same_bits(tiny_corpus, tmp_path):
    settings = settings_of(TRIPLET, augmentation={"noise_chance": 0.7}, **SAVING)
    words = ["train", settings.model_dump_json(), tiny_corpus.folder, tmp_path / "cut", "3"]
    killed = start(ROOT, "tests.training_runs", *words)
    _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, errors
    assert not (tmp_path / "cut" / "model").exists()
    with in_float64:
        undisturbed = trained(settings, tiny_corpus, tmp_path / "whole")
        assert_same(undisturbed, trained(settings, tiny_corpus, tmp_path / "cut"))
    pd.testing.assert_frame_equal(curve_of(tmp_path / "whole"), curve_of(tmp_path / "cut"))
    assert not list((tmp_path / "cut" / "checkpoints").iterdir())


@pytest.mark.parametrize("n_damaged", [1, 2])
def test_a_damaged_checkpoint_is_set_aside_and_changes_no_bit(tiny_corpus, tmp_path, n_damaged):
    settings = settings_of(TRIPLET, **SAVING)
    measure = Mock(side_effect=[0.5, KeyboardInterrupt])  # the second is after the last step
    with pytest.raises(KeyboardInterrupt):
        train_run(settings, tiny_corpus, tmp_path / "cut", measure=measure)
    kept = sorted((tmp_path / "cut").rglob("*.pt"))
    assert [path.name for path in kept] == ["step-0000000008.pt", "step-0000000009.pt"]
    for path in kept[-n_damaged:]:
        path.write_bytes(b"")
    lines: list[str] = []
    resumed = trained(settings, tiny_corpus, tmp_path / "cut", report=lines.append)
    assert f"{kept[1]} is damaged and set aside" in lines[0]
    goes_on = "going on from step 8 of an interrupted run" in lines
    assert goes_on == (n_damaged == 1)
    assert_same(trained(settings, tiny_corpus, tmp_path / "whole"), resumed)


def test_a_whole_result_is_taken_up_and_a_changed_one_trained_anew(tiny_corpus, tmp_path):
    settings, model = settings_of(AP), tmp_path / "model" / "model.safetensors"
    facts = train_run(settings, tiny_corpus, tmp_path)
    assert facts.keys() == {"seconds", "device", "processes"}
    content = model.read_bytes()
    assert train_run(settings, tiny_corpus, tmp_path) == {}
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert train_run(settings, tiny_corpus, tmp_path)
    assert model.read_bytes() == content
    assert train_run(settings, tiny_corpus, tmp_path, seed=1)
    assert train_run(settings_of(TRIPLET), tiny_corpus, tmp_path)


def test_a_run_started_twice_waits_for_the_first(tiny_corpus, tmp_path, monkeypatch):
    settings, second, found = settings_of(AP), tmp_path / "second", []
    train_run(settings, tiny_corpus, tmp_path / "first")
    record = json.loads((tmp_path / "first" / "model" / "training.json").read_text())
    identity = {name: record[name] for name in ("key", "seed", "corpus")}
    folder = checkpoints.checkpoint_folder(second / "checkpoints", "run", identity)
    is_waiting = threading.Event()
    monkeypatch.setattr(disk, "print", lambda *_, **__: is_waiting.set(), raising=False)
    with exclusive(folder.with_name(f"{folder.name}.lock")):
        thread = threading.Thread(
            target=lambda: found.append(train_run(settings, tiny_corpus, second))
        )
        thread.start()
        assert is_waiting.wait(60)
        shutil.copytree(tmp_path / "first" / "model", second / "model")
    thread.join()
    assert found == [{}]


def test_every_loss_starts_from_the_same_trunk(tiny_corpus, tmp_path):
    weights = [
        trained(settings_of(loss, crops=0), tiny_corpus, tmp_path / loss["name"])
        for loss in (SOFTMAX, AP, TRIPLET)
    ]
    assert_same(weights[0], weights[1])
    assert_same(weights[0], weights[2])


# -------------------------------------------------------------------------- what settings do


def test_learning_rate_momentum_and_weight_decay_reach_torchs_optimizer():
    rate = {"initial": 0.1, "final": 0.01, "begins": 0.5, "shape": "step"}
    keys = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.02}
    settings = settings_of(AP, learning_rate=rate, **keys)
    learner = training_runs.build_learner(settings, training_runs.SPEAKERS, 0, training_runs.CPU)
    step = loop.TrainingStep(settings, learner, 0, training_runs.CPU)
    for progress, expected in ((0.0, 0.1), (0.5, 0.01)):
        step(training_runs.noise(), torch.arange(training_runs.N), 0, progress)
        (group,) = learner.optimizer.param_groups
        assert [group[key] for key in ("lr", "momentum", "weight_decay")] == [expected, 0.5, 0.02]


def test_a_schedule_is_set_on_the_loss_by_crops_seen(tiny_corpus, tmp_path):
    margin = Schedule(initial=0.0, final=0.4, begins=0.5, shape="step")
    settings = settings_of({"name": "am_softmax", "margin": margin, "scale": 15.0}, crops=360)
    train_run(settings, tiny_corpus, tmp_path)
    curve = curve_of(tmp_path)
    half = curve["crops"] <= 180  # crops seen after the step, which began before half
    assert set(curve.loc[half, "margin"]) == {0.0}
    assert set(curve.loc[~half, "margin"]) == {0.4}


def test_the_best_weights_of_trunk_and_loss_are_kept_if_asked(tiny_corpus, tmp_path):
    # The second of three measurements is the best: what a run of two thirds of the crops ends with.
    best = settings_of(SOFTMAX, keep="best", measurements=3, crops=180)
    measure = Mock(side_effect=[0.3, 0.1, 0.2])
    train_run(best, tiny_corpus, tmp_path / "best", measure=measure)
    assert curve_of(tmp_path / "best")["dev_eer"].dropna().tolist() == [0.3, 0.1, 0.2]
    train_run(settings_of(SOFTMAX, crops=120), tiny_corpus, tmp_path / "two thirds")
    for name in MODEL_FILES:
        paths = [tmp_path / folder / "model" / name for folder in ("best", "two thirds")]
        assert_same(*map(load_file, paths))


def test_a_model_names_the_speakers_it_has_learned_from(tiny_corpus, tmp_path, monkeypatch):
    def known(name, crops=12, **keys):
        train_run(settings_of(TRIPLET, crops=crops, **keys), tiny_corpus, tmp_path / name)
        return json.loads((tmp_path / name / "model" / "known_speakers.json").read_text())

    for name in ("params.yaml", "dvc.yaml"):  # a project's
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    pretrained, everyone = "first/model/model.safetensors", known_speakers(tiny_corpus)
    assert known("first") == [everyone]
    assert known("tuned", initial_weights=pretrained) == [everyone, everyone]
    assert known("untrained", crops=0) == []
    (few,) = known("few", training_speakers=9)
    assert len(few["train"]) == 9
    assert set(few["train"]) < set(everyone["train"])
    wider = settings_of(TRIPLET, {"name": "compact_tdnn"}, initial_weights=pretrained)
    with pytest.raises(StudyError, match=r"initial_weights: .* holds the trunk compact_tdnn with"):
        train_run(wider, tiny_corpus, tmp_path / "wider")


# ------------------------------------------------------------------------- one clear sentence


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"training_speakers": 13}, "training_speakers is 13, but .* has only 12 training"),
        ({"chunk_crops": 1}, "chunk_crops is 1: a chunk has 1 of the batch's 12 crops, but"),
        ({"learning_rate": 1e38, "optimizer": "sgd"}, r"loss softmax is (nan|inf) by step \d of 5"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tiny_corpus, tmp_path, keys, sentence):
    with pytest.raises(StudyError, match=sentence):
        train_run(settings_of(SOFTMAX, **keys), tiny_corpus, tmp_path)
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_one_sentence_and_the_old_model_is_kept(tiny_corpus, tmp_path):
    train_run(settings_of(TRIPLET), tiny_corpus, tmp_path)
    old, sentence = files_of(tmp_path / "model"), r"The disk is full, .*: training in "
    for seconds, size in ((1e-6, 20_000), (100, 4_000)):  # at a checkpoint, at the model
        other = settings_of(TRIPLET, crops=120, checkpoint_seconds=seconds)
        with full_disk(size), pytest.raises(StudyError, match=sentence):
            train_run(other, tiny_corpus, tmp_path)
        assert files_of(tmp_path / "model") == old
    assert train_run(other, tiny_corpus, tmp_path)


def test_too_little_memory_is_one_sentence_that_names_the_key(tiny_corpus, tmp_path):
    measure = Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(StudyError, match=r"does not hold a step: .* train\.chunk_crops"):
        train_run(settings_of(SOFTMAX, measurements=1), tiny_corpus, tmp_path, measure=measure)
