"""Scores of verification trials -> error rates and costs.

Everything is read off the same operating points. Accept a trial when its score reaches a threshold;
let the threshold fall through the distinct scores, from above the highest (nothing accepted) to the
lowest (everything accepted). Trials of equal score are accepted together. Each step gives a
false-alarm rate (accepted non-targets / non-targets) and a miss rate (rejected targets / targets).
The curve between neighbouring points is the straight line that joins them, as in the trapezoidal
ROC; the equal error rate is the point of that polygon where both rates are equal.

Weights, where given, count a trial that many times (a bootstrap's multiplicities, for instance).
Rates and costs are fractions, never per cent. Log-likelihood ratios are natural logarithms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from studylib.errors import StudyError


@dataclass(frozen=True)
class OperatingPoints:
    """The K + 1 operating points of K distinct scores, from "accept nothing" to "accept all".

    Attributes
    ----------
    thresholds : (K + 1,) float64
        Falling; point k accepts the scores >= thresholds[k]; the first is infinite.
    false_alarm, miss : (K + 1,) float64
        Rates in [0, 1]: false alarms rise from 0 to 1, misses fall from 1 to 0.
    """

    thresholds: np.ndarray
    false_alarm: np.ndarray
    miss: np.ndarray


def operating_points(scores, targets, weights=None) -> OperatingPoints:
    """Sort the trials once and count both errors at every distinct score.

    Parameters
    ----------
    scores : (T,) float
        Higher means more likely the same speaker.
    targets : (T,) bool
        True where both sides are the same speaker.
    weights : (T,) float, optional
        How often each trial counts, >= 0.

    Raises
    ------
    StudyError
        No trials, lengths that differ, a score that is not finite, or only one kind of trial.
    """
    scores, targets, weights = _checked(scores, targets, weights)
    order = np.argsort(-scores, kind="stable")
    scores, targets, weights = scores[order], targets[order], weights[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    hits = np.cumsum(np.where(targets, weights, 0.0))[ends]
    alarms = np.cumsum(np.where(targets, 0.0, weights))[ends]
    return OperatingPoints(
        thresholds=np.concatenate([[np.inf], scores[ends]]),
        false_alarm=np.concatenate([[0.0], alarms / alarms[-1]]),
        miss=np.concatenate([[1.0], (hits[-1] - hits) / hits[-1]]),
    )


def equal_error_rate(scores, targets, weights=None) -> float:
    """The rate at which misses equal false alarms, a fraction in [0, 1].

    Exact with ties: where the rates cross between two operating points, linear interpolation along
    the line that joins them. All scores equal: 0.5.
    """
    return equal_error_point(operating_points(scores, targets, weights))[0]


def equal_error_threshold(scores, targets, weights=None) -> float:
    """The score at which misses equal false alarms, interpolated like the rate itself."""
    return equal_error_point(operating_points(scores, targets, weights))[1]


def equal_error_point(points: OperatingPoints) -> tuple[float, float]:
    """(rate, threshold) where the polygon through the operating points meets miss = false alarm."""
    excess = points.miss - points.false_alarm  # falls from 1 to -1
    k = np.searchsorted(-excess, 0.0, side="right") - 1
    step = excess[k] / (excess[k] - excess[k + 1])
    rate = points.false_alarm[k] + step * (points.false_alarm[k + 1] - points.false_alarm[k])
    above, below = points.thresholds[k], points.thresholds[k + 1]
    threshold = below if np.isinf(above) else above + step * (below - above)
    return float(rate), float(threshold)


def minimum_detection_cost(
    scores, targets, *, target_prior: float, miss_cost=1.0, false_alarm_cost=1.0, weights=None
) -> float:
    """The normalised detection cost at the best threshold (minDCF), in [0, 1].

    min over thresholds of  C_miss P miss + C_fa (1 - P) false_alarm,  divided by the cost of the
    better of "accept nothing" and "accept all" (NIST SRE evaluation plans).
    """
    points = operating_points(scores, targets, weights)
    return float(_costs(points, target_prior, miss_cost, false_alarm_cost).min())


def actual_detection_cost(
    scores, targets, *, target_prior: float, miss_cost=1.0, false_alarm_cost=1.0, threshold=None
) -> float:
    """The normalised detection cost of real decisions (actDCF), >= 0 and possibly above 1.

    Without `threshold` the scores are taken as natural log-likelihood ratios and the Bayes
    threshold log(C_fa (1 - P) / (C_miss P)) decides; accept when score >= threshold.
    """
    scores, targets, _ = _checked(scores, targets, None)
    of_miss, of_alarm = _weighted_costs(target_prior, miss_cost, false_alarm_cost)
    if threshold is None:
        threshold = np.log(of_alarm / of_miss)
    false_alarm, miss = np.mean(scores[~targets] >= threshold), np.mean(scores[targets] < threshold)
    return float((of_miss * miss + of_alarm * false_alarm) / min(of_miss, of_alarm))


def log_likelihood_ratio_cost(scores, targets, weights=None) -> float:
    """Cllr in bits: 0 is perfect, 1 is as good as the prior alone (Bruemmer, du Preez 2006).

    1/2 (mean over targets of log2(1 + e^-llr) + mean over non-targets of log2(1 + e^llr))
    """
    scores, targets, weights = _checked(scores, targets, weights)
    bits = np.logaddexp(0.0, np.where(targets, -scores, scores)) / np.log(2)
    of_targets = np.average(bits[targets], weights=weights[targets])
    of_nontargets = np.average(bits[~targets], weights=weights[~targets])
    return float((of_targets + of_nontargets) / 2)


def minimum_log_likelihood_ratio_cost(scores, targets, weights=None) -> float:
    """Cllr after the best monotonic map of the scores (minCllr), found by isotonic regression."""
    from scipy.optimize import isotonic_regression  # late: 0.7 s that few callers need

    points = operating_points(scores, targets, weights)
    # Both kinds of trial carry mass 1, so that the isotonic posterior is at prior 1/2.
    target_mass = -np.diff(points.miss)[::-1]
    nontarget_mass = np.diff(points.false_alarm)[::-1]
    mass = target_mass + nontarget_mass
    posterior = isotonic_regression(target_mass / mass, weights=mass).x
    with np.errstate(divide="ignore"):
        bits_target, bits_nontarget = -np.log2(posterior), -np.log2(1 - posterior)
    # A pure block has posterior 0 or 1, infinite cost for the kind it does not contain: 0 x inf.
    cost_target = target_mass @ np.where(target_mass > 0, bits_target, 0)
    cost_nontarget = nontarget_mass @ np.where(nontarget_mass > 0, bits_nontarget, 0)
    return float((cost_target + cost_nontarget) / 2)


def area_under_curve(scores, targets, weights=None) -> float:
    """Area under the ROC: the chance that a target outscores a non-target, ties counting half."""
    points = operating_points(scores, targets, weights)
    return float(np.trapezoid(1 - points.miss, points.false_alarm))


def summary(scores, targets, *, target_priors: Sequence[float] = (0.01, 0.05)) -> dict[str, float]:
    """The numbers a table of systems needs, from one sort: eer, its threshold, auc, minDCFs."""
    points = operating_points(scores, targets)
    rate, threshold = equal_error_point(points)
    auc = float(np.trapezoid(1 - points.miss, points.false_alarm))
    costs = {f"min_dcf_{p:g}": float(_costs(points, p, 1.0, 1.0).min()) for p in target_priors}
    return {"eer": rate, "eer_threshold": threshold, "auc": auc} | costs


def _costs(points: OperatingPoints, target_prior, miss_cost, false_alarm_cost) -> np.ndarray:
    """The normalised detection cost at every operating point, (K + 1,)."""
    of_miss, of_alarm = _weighted_costs(target_prior, miss_cost, false_alarm_cost)
    return (of_miss * points.miss + of_alarm * points.false_alarm) / min(of_miss, of_alarm)


def _weighted_costs(target_prior, miss_cost, false_alarm_cost) -> tuple[float, float]:
    if not 0 < target_prior < 1 or miss_cost <= 0 or false_alarm_cost <= 0:
        raise StudyError(
            f"A detection cost needs a target prior between 0 and 1 and positive costs, not "
            f"{target_prior}, {miss_cost} and {false_alarm_cost}."
        )
    return miss_cost * target_prior, false_alarm_cost * (1 - target_prior)


def _checked(scores, targets, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Plain arrays of trials that count at all, or the sentence that says what is wrong."""
    scores = np.asarray(scores, dtype=np.float64)
    targets = np.asarray(targets)
    weights = np.ones(scores.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != targets.shape or scores.shape != weights.shape:
        raise StudyError(
            f"Scores, targets and weights must be three lists of one length, "
            f"not {scores.shape}, {targets.shape} and {weights.shape}."
        )
    if not np.isin(targets, (0, 1)).all():
        raise StudyError("Targets must be true or false (1 or 0) for every trial.")
    targets = targets.astype(bool)
    if not np.isfinite(scores).all():
        count = int((~np.isfinite(scores)).sum())
        raise StudyError(f"{count} of {len(scores)} scores are not finite numbers.")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise StudyError("Trial weights must be finite and not negative.")
    if (counts := weights > 0).sum() < len(weights):
        scores, targets, weights = scores[counts], targets[counts], weights[counts]
    if targets.all() or not targets.any():
        raise StudyError(
            f"Error rates need target and non-target trials; got {int(targets.sum())} target and "
            f"{int((~targets).sum())} non-target trials."
        )
    return scores, targets, weights
