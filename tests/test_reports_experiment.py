"""What experiment.ipynb shows of a batch and of trials, against the training and plain NumPy."""

import numpy as np
import pandas as pd
import pytest
from training_runs import AP, settings_of, train_run

from studylib.reports.experiment import view_batch, with_players, worst_trials


def test_the_batch_shown_is_the_one_that_training_begins_with(tiny_corpus, tmp_path):
    settings = settings_of(AP, crops=12)
    train_run(settings, tiny_corpus, tmp_path, seed=3)
    before = view_batch(settings, tiny_corpus, 3)
    assert before.embeddings.shape == (6, 2, 8)
    curve = pd.read_csv(tmp_path / "model" / "curve.csv")
    assert before.loss == pytest.approx(curve["loss"][0], rel=1e-4)
    flat = before.embeddings.flatten(0, 1).double().numpy()
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(before.similarities, unit @ unit.T, atol=1e-5)
    after = view_batch(settings, tiny_corpus, 3, tmp_path / "model")
    assert after.loss < before.loss  # one step on these very crops


def test_the_worst_trials_are_targets_that_score_low_and_nontargets_that_score_high(tiny_corpus):
    scores = pd.DataFrame({"score": [0.9, 0.1, 0.5, 0.8, 0.2, 0.7], "first": 0, "second": 9})
    scores = scores.assign(target=[True] * 3 + [False] * 3, first_speaker="a", second_speaker="b")
    assert worst_trials(scores, target=True, n=2)["score"].tolist() == [0.1, 0.5]
    worst = worst_trials(scores, target=False, n=2)
    assert worst["score"].tolist() == [0.8, 0.7]
    assert with_players(worst, tiny_corpus).count("<audio") == 4
