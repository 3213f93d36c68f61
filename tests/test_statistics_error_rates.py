"""Error rates against exact arithmetic over all thresholds, and against their definitions."""

from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from studylib.errors import StudyError
from studylib.statistics import error_rates


def exact_curve(scores, targets):
    """All (threshold, false alarm, miss), counted one threshold at a time in fractions."""
    trials = list(zip(scores, targets, strict=True))
    n_targets = sum(targets)
    curve = [(None, Fraction(0), Fraction(1))]
    for threshold in sorted(set(scores), reverse=True):
        alarms = sum(not t and s >= threshold for s, t in trials)
        misses = sum(t and s < threshold for s, t in trials)
        curve.append(
            (threshold, Fraction(alarms, len(trials) - n_targets), Fraction(misses, n_targets))
        )
    return curve


def exact_eer(curve):
    """(rate, threshold) on the segment that holds the point miss = false alarm."""
    for (t0, a0, m0), (t1, a1, m1) in pairwise(curve):
        if m0 - a0 >= 0 >= m1 - a1:
            step = (m0 - a0) / ((m0 - a0) - (m1 - a1))
            threshold = t1 if t0 is None else t0 + step * (t1 - t0)
            return a0 + step * (a1 - a0), threshold
    raise AssertionError("the curve starts above the diagonal and ends below it")


def exact_min_dcf(curve, prior):
    return min(prior * m + (1 - prior) * a for _, a, m in curve) / min(prior, 1 - prior)


def small_cases():
    generator = np.random.default_rng(3)
    for _ in range(150):
        size = int(generator.integers(2, 25))
        targets = generator.random(size) < 0.5
        targets[:2] = True, False
        scores = generator.integers(0, generator.integers(1, 12), size) + 2 * targets
        yield scores.tolist(), targets.tolist()


def test_curve_and_summary_equal_exact_arithmetic_on_small_cases_with_ties():
    for scores, targets in small_cases():
        curve = exact_curve(scores, targets)
        false_alarm, miss, thresholds = error_rates.operating_points(scores, targets)
        assert thresholds[1:].tolist() == [t for t, _, _ in curve[1:]]
        np.testing.assert_allclose(false_alarm, [float(a) for _, a, _ in curve], atol=1e-15)
        np.testing.assert_allclose(miss, [float(m) for _, _, m in curve], atol=1e-15)
        rate, threshold = map(float, exact_eer(curve))
        table = error_rates.summary(scores, targets)
        assert error_rates.equal_error_rate(scores, targets) == table["eer"]
        assert table["eer"] == pytest.approx(rate, abs=1e-15)
        assert table["eer_threshold"] == pytest.approx(threshold, abs=1e-12)
        assert table["auc"] == pytest.approx(roc_auc_score(targets, scores), abs=1e-13)
        for prior in (Fraction(1, 100), Fraction(1, 20)):
            cost = float(exact_min_dcf(curve, prior))
            assert table[f"min_dcf_{float(prior)}"] == pytest.approx(cost, abs=1e-14)


def test_min_cllr_is_that_of_the_isotonic_posterior_by_its_min_max_formula():
    for scores, targets in islice(small_cases(), 30):
        scores, targets = np.array(scores), np.array(targets)
        mass = np.where(targets, 1 / targets.sum(), 1 / (~targets).sum())
        posterior = np.empty(len(scores))
        for trial, own in enumerate(scores):  # the largest over starts of the least mean over ends
            means = [
                min(
                    np.average(targets[block], weights=mass[block])
                    for end in scores[scores >= own]
                    for block in [(scores >= start) & (scores <= end)]
                )
                for start in scores[scores <= own]
            ]
            posterior[trial] = max(means)
        cost = -np.mean(np.log2(posterior[targets])) - np.mean(np.log2(1 - posterior[~targets]))
        found = error_rates.minimum_log_likelihood_ratio_cost(scores, targets)
        assert found == pytest.approx(cost / 2, abs=1e-9)


def test_true_log_likelihood_ratios_cost_what_the_best_map_costs():
    # Unit Gaussians 2.2 apart have llr = 2.2 s - 2.42; the EER is Phi(-1.1).
    generator = np.random.default_rng(0)
    targets = generator.random(40_000) < 0.4
    scores = np.round(generator.normal(size=len(targets)) + 2.2 * targets, 3)  # many ties
    llr = 2.2 * scores - 2.42
    best = error_rates.minimum_log_likelihood_ratio_cost(scores, targets)
    assert best <= error_rates.log_likelihood_ratio_cost(llr, targets) <= best + 0.01
    assert error_rates.log_likelihood_ratio_cost(3 * llr, targets) > best + 0.05
    assert error_rates.equal_error_rate(scores, targets) == pytest.approx(0.13567, abs=0.004)


@pytest.mark.parametrize("kind", [True, False])
def test_trials_of_one_kind_are_refused_in_a_sentence(kind):
    with pytest.raises(StudyError, match=f"{2 * kind} of 2 trials are targets"):
        error_rates.equal_error_rate([1.0, 2.0], [kind, kind])
