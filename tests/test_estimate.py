"""The cost of a study, counted by hand."""

import pytest
import torch
import yaml

from studylib.pipeline.estimate import estimate, measure_speed, study_crops, timed_settings
from studylib.pipeline.params import Params, run_settings
from studylib.training.gradient_caching import in_chunks

DOCUMENT = yaml.safe_load(
    """
study: {name: small, runs: [am, triplet, wide, untrained], seeds: [0, 1]}
corpus: {name: tiny, source: embedded}
trunk: {name: compact_tdnn, embedding_dim: 16, channels: 8}
train:
  {crops: 1000, crop_seconds: 0.5, speakers_per_batch: 32, utterances_per_speaker: 2, threads: 1}
evaluate: {trials: [test]}
runs:
  am: {loss: {name: am_softmax, margin: 0.2, scale: 30}}
  triplet: {loss: {name: triplet, margin: 0.3, hard_fraction: 1.0}, train: {speakers_per_batch: 50}}
  wide: {loss: {name: softmax}, trunk: {channels: 16}, train: {crops: 64}}
  untrained: {loss: {name: softmax}, train: {crops: 0}}
"""
)


@pytest.fixture
def params() -> Params:
    return Params.model_validate(DOCUMENT)


def test_crops_are_whole_batches_of_all_runs_and_seeds(params):
    table = study_crops(params)
    assert table["trunk"].tolist() == ["compact_tdnn"]
    # am: 16 batches of 64; triplet: 10 of 100; wide: one of 64; untrained: none. Two seeds.
    assert table["crops"].tolist() == [2 * (1024 + 1000 + 64)]
    assert table["runs"].tolist() == [2 * 3]
    assert table["timed"].tolist() == ["triplet"]


def test_hours_at_a_given_speed_are_crops_over_speed(params):
    text = estimate(params, crops_per_second=4176 / 3600 / 20, seconds=0)
    assert "4,176 training crops in all, about 20 hours" in text
    assert "hours" not in estimate(params, crops_per_second=None, seconds=0)


def test_a_speed_is_measured_for_every_loss_and_with_augmentation(params):
    for run in ("am", "triplet"):
        settings = run_settings(params, run)
        assert measure_speed(settings, 0.05) > 1
    train = settings.train.model_copy(update={"augmentation": {"room_chance": 0.5}})
    assert measure_speed(settings.model_copy(update={"train": train}), 0.05) > 1


@pytest.mark.parametrize(
    ("chunk", "in_the_run"), [(0, False), (40, True), (99, True), (100, False)]
)
def test_a_batch_is_timed_in_chunks_where_the_run_s_own_is(params, chunk, in_the_run):
    settings = run_settings(params, "triplet")  # batches of 100
    train = settings.train.model_copy(update={"chunk_crops": chunk})
    settings = settings.model_copy(update={"train": train})
    for device in ("cpu", "cuda"):
        timed = timed_settings(settings, torch.device(device)).train
        batch = timed.speakers_per_batch * timed.utterances_per_speaker
        assert batch == (64 if device == "cpu" and chunk in (0, 100) else 100)
        assert (len(in_chunks(batch, timed.chunk_crops)) > 1) == (chunk in (40, 99))
