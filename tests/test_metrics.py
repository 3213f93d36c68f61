"""Error rates against exact arithmetic over all thresholds, and against scikit-learn."""

from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score, roc_curve

from studylib.errors import StudyError
from studylib.statistics import error_rates as metrics


def exact_curve(scores, targets, weights=None):
    """All (threshold, false alarm, miss), counted one threshold at a time in fractions."""
    weights = [1] * len(scores) if weights is None else [int(w) for w in weights]
    trials = list(zip(scores, targets, weights, strict=True))
    n_targets = sum(w for _, t, w in trials if t)
    n_nontargets = sum(w for _, t, w in trials if not t)
    curve = [(None, Fraction(0), Fraction(1))]
    for threshold in sorted({s for s, _, w in trials if w}, reverse=True):
        alarms = sum(w for s, t, w in trials if not t and s >= threshold)
        misses = sum(w for s, t, w in trials if t and s < threshold)
        curve.append((threshold, Fraction(alarms, n_nontargets), Fraction(misses, n_targets)))
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
    for _ in range(300):
        size = int(generator.integers(2, 25))
        targets = generator.random(size) < 0.5
        targets[:2] = True, False
        scores = generator.integers(0, generator.integers(1, 12), size) + 2 * targets
        yield scores.tolist(), targets.tolist(), generator.integers(0, 4, size).tolist()


def test_curve_eer_and_min_dcf_equal_exact_arithmetic_on_small_cases_with_ties():
    for scores, targets, _ in small_cases():
        curve = exact_curve(scores, targets)
        points = metrics.operating_points(scores, targets)
        assert points.thresholds[1:].tolist() == [t for t, _, _ in curve[1:]]
        np.testing.assert_allclose(points.false_alarm, [float(a) for _, a, _ in curve], atol=1e-15)
        np.testing.assert_allclose(points.miss, [float(m) for _, _, m in curve], atol=1e-15)
        rate, threshold = exact_eer(curve)
        assert metrics.equal_error_rate(scores, targets) == pytest.approx(float(rate), abs=1e-15)
        found = metrics.equal_error_threshold(scores, targets)
        assert found == pytest.approx(float(threshold), abs=1e-12)
        for prior in (Fraction(1, 100), Fraction(1, 20), Fraction(3, 4)):
            cost = metrics.minimum_detection_cost(scores, targets, target_prior=float(prior))
            assert cost == pytest.approx(float(exact_min_dcf(curve, prior)), abs=1e-14)


def test_every_labelling_of_five_tied_scores_equals_exact_arithmetic():
    for scores in ([0, 1, 2, 3, 4], [0, 0, 1, 1, 2], [1, 1, 1, 1, 1]):
        for targets in product([False, True], repeat=5):
            if any(targets) and not all(targets):
                rate, _ = exact_eer(exact_curve(scores, targets))
                assert metrics.equal_error_rate(scores, targets) == pytest.approx(
                    float(rate), abs=1e-15
                )


def test_weights_equal_repeated_trials():
    for scores, targets, weights in small_cases():
        counted = [t for t, w in zip(targets, weights, strict=True) for _ in range(w)]
        if not any(counted) or all(counted):
            continue
        repeated = np.repeat(scores, weights)
        for measure in (
            metrics.equal_error_rate,
            metrics.equal_error_threshold,
            metrics.area_under_curve,
            metrics.log_likelihood_ratio_cost,
            metrics.minimum_log_likelihood_ratio_cost,
        ):
            assert measure(scores, targets, weights) == pytest.approx(measure(repeated, counted))


@pytest.fixture(scope="module")
def large():
    generator = np.random.default_rng(0)
    targets = generator.random(40_000) < 0.4
    scores = generator.normal(size=len(targets)) + 2.2 * targets
    return np.round(scores, 3), targets  # rounded: thousands of ties


def test_curve_equals_scikit_learn_on_a_large_list(large):
    scores, targets = large
    false_alarm, hit, thresholds = roc_curve(targets, scores, drop_intermediate=False)
    points = metrics.operating_points(scores, targets)
    np.testing.assert_allclose(points.false_alarm, false_alarm, atol=1e-14)
    np.testing.assert_allclose(points.miss, 1 - hit, atol=1e-14)
    np.testing.assert_array_equal(points.thresholds, thresholds)
    assert metrics.area_under_curve(scores, targets) == pytest.approx(
        roc_auc_score(targets, scores), abs=1e-13
    )


def test_min_cllr_equals_the_cllr_of_scikit_learns_isotonic_posteriors(large):
    scores, targets = large
    weights = np.where(targets, 1 / targets.sum(), 1 / (~targets).sum())
    isotonic = IsotonicRegression(y_min=0, y_max=1)
    posterior = isotonic.fit(scores, targets, sample_weight=weights).predict(scores)
    llr = np.clip(np.log(posterior + 1e-300) - np.log(1 - posterior + 1e-300), -600, 600)
    assert metrics.minimum_log_likelihood_ratio_cost(scores, targets) == pytest.approx(
        metrics.log_likelihood_ratio_cost(llr, targets), abs=1e-9
    )


def test_true_log_likelihood_ratios_cost_what_the_best_map_costs(large):
    # Unit Gaussians 2.2 apart have llr = 2.2 s - 2.42; the EER is Phi(-1.1).
    scores, targets = large
    llr = 2.2 * scores - 2.42
    best = metrics.minimum_log_likelihood_ratio_cost(scores, targets)
    assert best <= metrics.log_likelihood_ratio_cost(llr, targets) <= best + 0.01
    assert metrics.log_likelihood_ratio_cost(3 * llr, targets) > best + 0.05
    assert metrics.equal_error_rate(scores, targets) == pytest.approx(0.13567, abs=0.004)


def test_actual_cost_is_the_cost_of_the_decisions_taken(large):
    scores, targets = large
    llr = 2.2 * scores - 2.42
    for prior, miss_cost, alarm_cost in ((0.01, 1, 1), (0.05, 10, 1), (0.5, 1, 1)):
        posterior = expit(llr + np.log(prior / (1 - prior)))
        accept = miss_cost * posterior >= alarm_cost * (1 - posterior)
        cost = miss_cost * prior * np.mean(~accept[targets])
        cost += alarm_cost * (1 - prior) * np.mean(accept[~targets])
        cost /= min(miss_cost * prior, alarm_cost * (1 - prior))
        costs = {"miss_cost": miss_cost, "false_alarm_cost": alarm_cost, "target_prior": prior}
        actual = metrics.actual_detection_cost(llr, targets, **costs)
        assert actual == pytest.approx(cost, abs=1e-12)
        assert metrics.minimum_detection_cost(llr, targets, **costs) <= actual
        at_zero = metrics.actual_detection_cost(llr, targets, threshold=0.0, **costs)
        assert at_zero == metrics.actual_detection_cost(
            llr + np.log(alarm_cost * (1 - prior) / (miss_cost * prior)), targets, **costs
        )


def test_summary_holds_the_single_measures(large):
    table = metrics.summary(*large)
    assert table["eer"] == metrics.equal_error_rate(*large)
    assert table["eer_threshold"] == metrics.equal_error_threshold(*large)
    assert table["auc"] == metrics.area_under_curve(*large)
    for prior in (0.01, 0.05):
        cost = metrics.minimum_detection_cost(*large, target_prior=prior)
        assert table[f"min_dcf_{prior}"] == cost


def test_perfect_inverted_and_constant_scores_have_the_defined_values():
    targets = [True, True, False, False]
    assert metrics.equal_error_rate([3, 2, 1, 0], targets) == 0
    assert metrics.minimum_detection_cost([3, 2, 1, 0], targets, target_prior=0.01) == 0
    assert metrics.minimum_log_likelihood_ratio_cost([3, 2, 1, 0], targets) == 0
    assert metrics.equal_error_rate([0, 1, 2, 3], targets) == 1
    assert metrics.minimum_log_likelihood_ratio_cost([0, 1, 2, 3], targets) == 1
    assert metrics.equal_error_rate([7, 7, 7, 7], targets) == 0.5
    assert metrics.area_under_curve([7, 7, 7, 7], targets) == 0.5
    assert metrics.minimum_detection_cost([7, 7, 7, 7], targets, target_prior=0.01) == 1
    assert metrics.minimum_log_likelihood_ratio_cost([7, 7, 7, 7], targets) == 1
    assert metrics.log_likelihood_ratio_cost([0, 0, 0, 0], targets) == 1


@pytest.mark.parametrize(
    ("scores", "targets", "weights", "sentence"),
    [
        ([], [], None, "0 target and 0 non-target"),
        ([1.0, 2.0], [True, True], None, "2 target and 0 non-target"),
        ([1.0, 2.0], [False, False], None, "0 target and 2 non-target"),
        ([1.0, np.nan], [True, False], None, "1 of 2 scores are not finite"),
        ([1.0, np.inf], [True, False], None, "1 of 2 scores are not finite"),
        ([1.0], [True, False], None, "one length"),
        ([[1.0, 2.0]], [[True, False]], None, "one length"),
        ([1.0, 2.0], [1, 2], None, "true or false"),
        ([1.0, 2.0], [True, False], [1.0], "one length"),
        ([1.0, 2.0], [True, False], [1.0, -1.0], "not negative"),
        ([1.0, 2.0], [True, False], [1.0, 0.0], "1 target and 0 non-target"),
    ],
)
def test_input_without_an_error_rate_is_refused_in_a_sentence(scores, targets, weights, sentence):
    for measure in (
        metrics.equal_error_rate,
        metrics.area_under_curve,
        metrics.log_likelihood_ratio_cost,
        metrics.minimum_log_likelihood_ratio_cost,
    ):
        with pytest.raises(StudyError, match=sentence):
            measure(scores, targets, weights)


def test_an_impossible_prior_is_refused():
    for prior in (0, 1, -0.1):
        with pytest.raises(StudyError, match="prior between 0 and 1"):
            metrics.minimum_detection_cost([1.0, 2.0], [False, True], target_prior=prior)
    with pytest.raises(StudyError, match="prior between 0 and 1"):
        metrics.actual_detection_cost([1.0, 2.0], [False, True], target_prior=0)
