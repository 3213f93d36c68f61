"""Scores -> log-likelihood ratios with a stored threshold, learned on development trials only.

Logistic regression of the development trials' labels on their scores, targets weighted by a prior
and without regularisation: llr = scale x score + offset, scale > 0. The order of the scores,
EER and minDCF do not change; the numbers become log-likelihood ratios, and one threshold, fixed
beforehand, decides. Scores that separate the development trials perfectly have no best scale (a
larger one is always better) and are refused.

References
----------
Bruemmer, du Preez 2006, "Application-independent evaluation of speaker detection".
"""

import numpy as np
from scipy.special import logit

from studylib.errors import StudyError


def fit_calibration(scores, targets, *, target_prior: float = 0.05) -> dict[str, float]:
    """Fit scale and offset on development trials.

    Parameters
    ----------
    scores : (T,) float
    targets : (T,) bool
    target_prior : float
        The prior at which the fit is best and for which the threshold is kept.

    Returns
    -------
    dict
        scale, offset; target_prior; threshold, the raw score from which on a trial is accepted:
        Bayes' threshold for target_prior at equal costs.

    Raises
    ------
    StudyError
        Scores that separate the trials perfectly, or whose best scale is not positive.
    """
    from sklearn.linear_model import LogisticRegression  # late: its import takes a second

    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    if scores[targets].min() >= scores[~targets].max():
        raise StudyError(
            "The development scores separate the trials perfectly: calibration has no finite scale."
        )
    shares = np.where(targets, target_prior / targets.sum(), (1 - target_prior) / (~targets).sum())
    centre, width = scores.mean(), scores.std()
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    standard = (scores - centre)[:, None] / width
    model.fit(standard, targets, sample_weight=shares * len(scores))
    scale = model.coef_[0, 0] / width
    if scale * width <= 1e-6:
        raise StudyError("The development scores do not part targets from nontargets.")
    offset = model.intercept_[0] - logit(target_prior) - scale * centre
    threshold = (-logit(target_prior) - offset) / scale
    found = {"scale": scale, "offset": offset, "target_prior": target_prior, "threshold": threshold}
    return {name: float(value) for name, value in found.items()}
