"""Scores of one back-end -> error rates with intervals; Cllr and actDCF after calibration.

Scores are calibrated on the list "dev" (calibration.py); the other lists, and the further corpora,
then give the cost of the log-likelihood ratios (Cllr) and of one threshold fixed beforehand
(actDCF).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studylib.errors import StudyError
from studylib.evaluation.calibration import fit_calibration
from studylib.files.atomic import read_json
from studylib.statistics.comparisons import error_table
from studylib.statistics.error_rates import (
    PRIORS,
    actual_detection_cost,
    log_likelihood_ratio_cost,
    minimum_log_likelihood_ratio_cost,
    summary,
)
from studylib.statistics.intervals import cells_of
from studylib.statistics.resampling import bootstrap


def read_metrics(folder: Path) -> dict[str, Any]:
    """All measures of a folder that `evaluate` wrote.

    Returns
    -------
    dict
        The measures of the first trial list by the first back-end; `trials` and `backend`, their
        names; `scoring`; `calibration` and `lists` of that back-end (see `measure_lists`);
        `further_backends`, the same of each other one.
    """
    headline, details = read_json(folder / "metrics.json"), read_json(folder / "details.json")
    return details["lists"][headline["trials"]] | headline | details


def measure_lists(
    lists: Mapping[str, pd.DataFrame],
    column: str,
    n_resamples: int,
    *,
    corpus: str,
    learned: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All measures of one back-end, calibrated on the list "dev" or on another corpus.

    Parameters
    ----------
    lists : name -> DataFrame
        Columns target, first_speaker, second_speaker, and the scores under the name `column`.
    column : str
    n_resamples : int
    corpus : str
        The name of these lists' corpus, kept with what is learned on it.
    learned : mapping, optional
        The calibration of another corpus, for all lists; otherwise it is learned on "dev".

    Returns
    -------
    dict
        calibration: scale, offset, target_prior, threshold (of the raw score) and corpus, the
        name of the one they were learned on; or {"skipped": why}. lists: for each list eer (a
        fraction), eer_interval (95 %, over speakers), eer_threshold, auc, min_dcf_<prior>, and how
        many trials and speakers; on lists that nothing was learned on, where there is a
        calibration, cllr and min_cllr (bits) and act_dcf_<prior>.
    """
    calibration = learned or {"skipped": "evaluate.trials has no list 'dev'"}
    if not learned and "dev" in lists:
        try:
            calibration = fit_calibration(lists["dev"][column], lists["dev"]["target"])
            calibration |= {"corpus": corpus}
        except StudyError as error:  # such as scores that separate few trials perfectly
            calibration = {"skipped": str(error)}
    measured = {}
    for name, frame in lists.items():
        scores, targets = frame[column].to_numpy(), frame["target"].to_numpy()
        sides = [frame[f"{side}_speaker"].to_numpy().astype(str) for side in ("first", "second")]
        resamples = bootstrap({"run": scores}, targets, *sides, n_resamples=n_resamples)["eer"]
        interval = error_table(cells_of(resamples, {"run": ["run"]})).loc["run", ["low", "high"]]
        measured[name] = summary(scores, targets) | {
            "eer_interval": interval.tolist(),
            "n_target": int(targets.sum()),
            "n_nontarget": int((~targets).sum()),
            "n_speakers": len(np.union1d(*sides)),
        }
        if "scale" in calibration and (learned or name != "dev"):
            ratios = calibration["scale"] * scores + calibration["offset"]
            for prior in PRIORS.values():
                cost = actual_detection_cost(ratios, targets, target_prior=prior)
                measured[name][f"act_dcf_{prior:g}"] = cost
            measured[name]["cllr"] = log_likelihood_ratio_cost(ratios, targets)
            measured[name]["min_cllr"] = minimum_log_likelihood_ratio_cost(scores, targets)
    return {"calibration": calibration, "lists": measured}
