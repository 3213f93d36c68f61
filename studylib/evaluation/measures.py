"""Scores of one back-end -> error rates with intervals, and what the scores are worth as evidence.

Scores are calibrated on the list "dev" (backends/calibration.py); the other lists then tell how
good the log-likelihood ratios are, and what one threshold, fixed beforehand, costs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from studylib.errors import StudyError
from studylib.evaluation.backends import Calibration, fit_calibration
from studylib.statistics.error_rates import (
    actual_detection_cost,
    log_likelihood_ratio_cost,
    minimum_log_likelihood_ratio_cost,
    summary,
)
from studylib.statistics.intervals import eer_interval

PRIORS = (0.01, 0.05)  # of a target, for detection costs


@dataclass(frozen=True)
class TrialSides:
    """What of a trial list the error rates need: targets (T,), and the speaker of each side."""

    targets: np.ndarray
    first_speaker: np.ndarray
    second_speaker: np.ndarray


def measure_lists(
    scores: Mapping[str, np.ndarray], lists: Mapping[str, TrialSides], n_resamples: int
) -> dict[str, Any]:
    """All that is told about one back-end.

    Parameters
    ----------
    scores : list -> (T,)
    lists : list -> TrialSides

    Returns
    -------
    dict
        calibration: scale, offset, target_prior and threshold (of the raw score), or {"skipped":
        why}. lists: for each list eer (a fraction), eer_interval (95 %, over speakers),
        eer_threshold, auc, min_dcf_<prior>, and how many trials and speakers; on lists other than
        "dev", where there is a calibration, cllr and min_cllr (bits) and act_dcf_<prior>.
    """
    calibration, told = _calibration(scores, lists)
    measured = {}
    for name, sides in lists.items():
        measured[name] = error_rates(scores[name], sides, n_resamples)
        if calibration is not None and name != "dev":
            measured[name] |= evidence(scores[name], sides.targets, calibration)
    return {"calibration": told, "lists": measured}


def _calibration(
    scores: Mapping[str, np.ndarray], lists: Mapping[str, TrialSides]
) -> tuple[Calibration | None, dict[str, Any]]:
    if "dev" not in lists:
        return None, {"skipped": "evaluate.trials has no list 'dev'"}
    try:
        calibration = fit_calibration(scores["dev"], lists["dev"].targets)
    except StudyError as error:  # such as scores that separate few trials without an error
        return None, {"skipped": str(error)}
    return calibration, asdict(calibration)


def error_rates(scores: np.ndarray, sides: TrialSides, n_resamples: int) -> dict[str, Any]:
    """EER with its interval over speakers, AUC, minimum costs, and the sizes of the list."""
    targets, first, second = sides.targets, sides.first_speaker, sides.second_speaker
    interval = eer_interval(scores, targets, first, second, n_resamples=n_resamples, seed=0)
    rates = summary(scores, targets, target_priors=PRIORS)
    return (
        {"eer": rates.pop("eer"), "eer_interval": [interval.low, interval.high]}
        | rates
        | {
            "n_target": int(targets.sum()),
            "n_nontarget": int((~targets).sum()),
            "n_speakers": len(np.unique(np.concatenate([first, second]).astype(str))),
        }
    )


def evidence(scores: np.ndarray, targets: np.ndarray, calibration: Calibration) -> dict[str, float]:
    """Costs of the calibrated scores: as log-likelihood ratios, and as decisions."""
    ratios = calibration.log_likelihood_ratios(scores)
    costs = {
        f"act_dcf_{prior:g}": actual_detection_cost(ratios, targets, target_prior=prior)
        for prior in PRIORS
    }
    return costs | {
        "cllr": log_likelihood_ratio_cost(ratios, targets),
        "min_cllr": minimum_log_likelihood_ratio_cost(scores, targets),
    }
