"""Scores of verification trials -> error rates and costs: the one definition of each.

All measures come from the same operating points. Accept a trial when its score reaches a threshold;
let the threshold fall through the distinct scores, from above the highest (nothing accepted) to the
lowest (everything accepted). Trials of equal score are accepted together. Each step gives a
false-alarm rate (accepted nontargets / nontargets) and a miss rate (rejected targets / targets).
The curve between neighbouring points is the straight line that joins them, as in the trapezoidal
ROC; the equal error rate is the point of that polygon where both rates are equal.

Rates and costs are fractions, never per cent. Log-likelihood ratios are natural logarithms.
`trials.py` applies the same functions to the weights of many resamples at once.
"""

import numpy as np
from scipy.special import logit

from studylib.errors import StudyError

PRIORS = {"min_dcf_0.01": 0.01, "min_dcf_0.05": 0.05}  # of a target, for detection costs


def operating_points(scores, targets) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count both errors at every distinct score.

    Parameters
    ----------
    scores : (T,) float
        Higher means more likely the same speaker.
    targets : (T,) bool
        True where both sides are the same speaker.

    Returns
    -------
    false_alarm, miss : (K + 1,) float64
        Of K distinct scores, from "accept nothing" to "accept all": false alarms grow from 0 to 1,
        misses fall from 1 to 0.
    thresholds : (K + 1,) float64
        Falling; point k accepts the scores >= thresholds[k]; the first is infinite.

    Raises
    ------
    StudyError
        Only one kind of trial.
    """
    from sklearn.metrics import roc_curve  # late: its import takes a second

    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    if targets.all() or not targets.any():
        counts = f"{targets.sum()} of {len(targets)} trials"
        raise StudyError(f"Error rates need target and nontarget trials; {counts} are targets.")
    false_alarm, hit, thresholds = roc_curve(targets, scores, drop_intermediate=False)
    return false_alarm, 1 - hit, thresholds


def crossings(false_alarm, miss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where polygons through operating points meet miss = false alarm.

    Parameters
    ----------
    false_alarm, miss : (K + 1, B) float
        One polygon a column; miss - false alarm falls from >= 0 to < 0.

    Returns
    -------
    rates : (B,) float64
        The equal error rates.
    before : (B,) int
        The last point with miss >= false alarm.
    steps : (B,) float64
        How far along the line to the next point, in [0, 1).
    """
    excess = miss - false_alarm
    before = (excess >= 0).sum(axis=0) - 1
    columns = np.arange(excess.shape[1])
    above, below = excess[before, columns], excess[before + 1, columns]
    steps = above / (above - below)
    start, end = false_alarm[before, columns], false_alarm[before + 1, columns]
    return start + steps * (end - start), before, steps


def equal_error_point(false_alarm, miss, thresholds) -> tuple[float, float]:
    """The equal error rate and its threshold, interpolated like the rate itself."""
    rate, (before,), step = crossings(false_alarm[:, None], miss[:, None])
    above, below = thresholds[before : before + 2]
    threshold = below if np.isinf(above) else above + step[0] * (below - above)
    return float(rate[0]), float(threshold)


def equal_error_rate(scores, targets) -> float:
    """The rate at which misses equal false alarms, a fraction in [0, 1].

    Exact with ties: where the rates cross between two operating points, linear interpolation along
    the line that joins them. All scores equal: 0.5.
    """
    return equal_error_point(*operating_points(scores, targets))[0]


def detection_costs(false_alarm, miss, target_prior: float):
    """Normalised detection costs at unit costs (NIST SRE evaluation plans), of any shape.

    (P miss + (1 - P) false_alarm) / the cost of the better of "accept nothing" and "accept all".
    """
    costs = target_prior * miss + (1 - target_prior) * false_alarm
    return costs / min(target_prior, 1 - target_prior)


def actual_detection_cost(ratios, targets, *, target_prior: float) -> float:
    """The normalised detection cost of real decisions (actDCF), >= 0 and possibly above 1.

    `ratios` (T,) are log-likelihood ratios; trials at or above Bayes' threshold log((1 - P) / P)
    are accepted.
    """
    accepted, targets = np.asarray(ratios) >= -logit(target_prior), np.asarray(targets, dtype=bool)
    miss, false_alarm = np.mean(~accepted[targets]), np.mean(accepted[~targets])
    return float(detection_costs(false_alarm, miss, target_prior))


def bits(ratios, targets) -> np.ndarray:
    """The cost of each trial's log-likelihood ratio, (T,) float64: log2(1 + e^-+ratio)."""
    return np.logaddexp(0.0, np.where(targets, -ratios, ratios)) / np.log(2)


def log_likelihood_ratio_cost(ratios, targets) -> float:
    """Cllr in bits: 0 is perfect, 1 is as good as the prior alone (Bruemmer, du Preez 2006).

    The mean of the targets' and the nontargets' mean `bits`.
    """
    ratios, targets = np.asarray(ratios, dtype=np.float64), np.asarray(targets, dtype=bool)
    costs = bits(ratios, targets)
    return float((costs[targets].mean() + costs[~targets].mean()) / 2)


def minimum_log_likelihood_ratio_cost(scores, targets) -> float:
    """Cllr after the best monotonic map of the scores (minCllr), found by isotonic regression."""
    from sklearn.isotonic import IsotonicRegression  # late, as above

    targets = np.asarray(targets, dtype=bool)
    weights = np.where(targets, 0.5 / targets.sum(), 0.5 / (~targets).sum())  # prior 1/2
    isotonic = IsotonicRegression(y_min=0, y_max=1)
    posterior = isotonic.fit_transform(scores, targets, sample_weight=weights)
    return log_likelihood_ratio_cost(logit(posterior), targets)


def summary(scores, targets) -> dict[str, float]:
    """The numbers a table of systems needs, from one sort: eer, eer_threshold, auc, min_dcf_<P>.

    auc is the chance that a target outscores a nontarget, ties counting half; min_dcf_<P> is the
    detection cost at the best threshold.
    """
    false_alarm, miss, thresholds = operating_points(scores, targets)
    rate, threshold = equal_error_point(false_alarm, miss, thresholds)
    measured = {"eer": rate, "eer_threshold": threshold}
    measured["auc"] = float(np.trapezoid(1 - miss, false_alarm))
    for name, prior in PRIORS.items():
        measured[name] = float(detection_costs(false_alarm, miss, prior).min())
    return measured
