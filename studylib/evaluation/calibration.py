"""Scores -> log-likelihood ratios with a stored threshold, learned on development trials only.

Logistic regression of the development trials' labels on their scores: llr = scale x score + offset,
scale > 0. The order of the scores stays, and with it EER and minDCF; what changes is that the
numbers mean something and that one threshold, fixed beforehand, decides.

    minimise  P mean over targets of log(1 + e^-(llr + logit P))
            + (1 - P) mean over non-targets of log(1 + e^(llr + logit P))

References
----------
Bruemmer, du Preez 2006, "Application-independent evaluation of speaker detection".
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from studylib.errors import StudyError


@dataclass(frozen=True)
class Calibration:
    """llr = scale x score + offset (natural log), and the score from which on a trial is accepted.

    `threshold` is in units of the raw score: the Bayes threshold for `target_prior` at equal costs.
    """

    scale: float
    offset: float
    target_prior: float
    threshold: float

    def log_likelihood_ratios(self, scores) -> np.ndarray:
        return self.scale * np.asarray(scores, dtype=np.float64) + self.offset

    def accept(self, scores) -> np.ndarray:
        """True where a trial is accepted as the same speaker."""
        return np.asarray(scores) >= self.threshold

    def save(self, path: Path) -> None:
        """Write a small json file, whole or not at all."""
        partial = Path(path).with_name(f".{Path(path).name}.partial")
        partial.write_text(json.dumps(asdict(self), indent=2) + "\n")
        os.replace(partial, path)


def load_calibration(path: Path) -> Calibration:
    """Read what `Calibration.save` wrote; StudyError when it is missing or something else."""
    try:
        return Calibration(**json.loads(Path(path).read_text()))
    except FileNotFoundError:
        raise StudyError(f"There is no calibration at {path}.") from None
    except (ValueError, TypeError):
        raise StudyError(f"{path} does not hold a calibration (scale, offset, ...).") from None


def fit_calibration(scores, targets, *, target_prior: float = 0.05) -> Calibration:
    """Fit scale and offset on development trials.

    Parameters
    ----------
    scores : (T,) float
    targets : (T,) bool
    target_prior : float
        P, the prior at which the fit is best and for which the threshold is kept.

    Raises
    ------
    StudyError
        Only one kind of trial, scores that separate the trials perfectly (the best scale would be
        infinite), or scores that say nothing or the wrong way round.
    """
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    if scores.shape != targets.shape or not np.isfinite(scores).all() or not 0 < target_prior < 1:
        raise StudyError("Calibration needs a finite score for each trial and a prior in (0, 1).")
    if targets.all() or not targets.any():
        raise StudyError("Calibration needs target and non-target development trials.")
    if scores.min() == scores.max():
        raise StudyError("The development scores are all equal: they cannot be calibrated.")
    if scores[targets].min() >= scores[~targets].max():
        raise StudyError(
            "The development scores separate the trials perfectly: calibration has no finite scale."
        )
    # Well-conditioned units; the parameters are translated back below.
    centre, width = scores.mean(), scores.std()
    standard = (scores - centre) / width
    signs = np.where(targets, 1.0, -1.0)
    weights = np.where(targets, target_prior / targets.sum(), (1 - target_prior) / (~targets).sum())

    def loss_and_slope(parameters):
        odds = parameters[0] * standard + parameters[1] + logit(target_prior)
        slope = -weights * signs * expit(-signs * odds)
        loss = weights @ np.logaddexp(0, -signs * odds)
        return loss, np.array([slope @ standard, slope.sum()])

    best = minimize(loss_and_slope, [1.0, 0.0], jac=True, method="BFGS", options={"gtol": 1e-9}).x
    if best[0] <= 1e-6:
        raise StudyError("The development scores do not tell targets from non-targets.")
    scale, offset = best[0] / width, best[1] - best[0] * centre / width
    threshold = (-logit(target_prior) - offset) / scale
    return Calibration(float(scale), float(offset), target_prior, float(threshold))
