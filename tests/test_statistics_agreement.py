"""The agreement of two test sets against scipy and a bootstrap written out."""

import numpy as np
import pytest
from made_up import all_trials
from scipy.stats import spearmanr

from studylib.statistics.agreement import rank_agreement
from studylib.statistics.error_rates import equal_error_rate
from studylib.statistics.intervals import cells_of
from studylib.statistics.resampling import bootstrap

LOSSES = {"a": 0.5, "b": 0.9, "c": 1.3, "d": 1.7}


def measured(n_speakers, order, seed):
    """Scores of four losses with two seeds each on all pairs, and their resamples as cells."""
    rng, trials = np.random.default_rng(seed), all_trials(n_speakers, 3)
    quality = dict(zip(LOSSES, np.array(list(LOSSES.values()))[order], strict=True))
    scores = {
        f"{loss}-{k}": quality[loss] * trials["target"] + 0.7 * rng.normal(size=len(trials))
        for loss in LOSSES
        for k in (0, 1)
    }
    sides = (trials[f"{side}_speaker"] for side in ("first", "second"))
    resamples = bootstrap(scores, trials["target"], *sides, n_resamples=40, seed=seed)["eer"]
    cells = cells_of(resamples, {loss: [f"{loss}-0", f"{loss}-1"] for loss in LOSSES})
    return trials, scores, cells


def test_spearman_is_scipy_s_of_the_mean_rates_and_of_every_resample():
    (trials, scores, one), (*_, two) = measured(12, [0, 1, 2, 3], 0), measured(9, [1, 0, 3, 2], 1)
    found = rank_agreement(one, two)
    rates = [equal_error_rate(each, trials["target"]) for each in scores.values()]
    by_loss = np.reshape(rates, (4, 2)).mean(axis=1)
    np.testing.assert_allclose(np.exp(one.estimates), by_loss)
    assert found["spearman"] == pytest.approx(spearmanr(by_loss, two.estimates).statistic)
    each = [spearmanr(a, b).statistic for a, b in zip(one.speakers.T, two.speakers.T, strict=True)]
    np.testing.assert_allclose([found["low"], found["high"]], np.percentile(each, [2.5, 97.5]))
    kept = []
    for a, b in zip(one.speakers.T, two.speakers.T, strict=True):
        for i in range(4):
            for j in range(i):
                product = (a[i] - a[j]) * (b[i] - b[j])
                kept.append(0.5 if product == 0 else float(product > 0))
    assert found["pairs_kept"] == pytest.approx(np.mean(kept))
