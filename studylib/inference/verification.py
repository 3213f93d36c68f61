"""Two recordings: the same speaker? A score, a calibrated probability, a decision."""

import math
from pathlib import Path
from typing import Any

from studylib.errors import StudyError
from studylib.inference.speaker_model import SpeakerModel
from studylib.inference.waveforms import read_waveform, weaknesses

SYNTHETIC = "embedded"  # the source of corpora that were not recorded


def verify(
    model: SpeakerModel, first: str | Path, second: str | Path, prior: float = 0.5
) -> dict[str, Any]:
    """Compare two recordings.

    Parameters
    ----------
    prior : float
        The probability of one speaker before the recordings are heard, in (0, 1).

    Returns
    -------
    dict
        score; llr, the natural log-likelihood ratio; probability of one speaker, at the prior;
        same, whether it is 1/2 or more; prior; calibrated_on, the recordings that the ratio was
        learned on; warnings, a list of sentences.

    Raises
    ------
    StudyError
        A recording that cannot be used, a model without calibration, a prior outside (0, 1).
    """
    if not 0 < prior < 1:
        raise StudyError(f"the prior is {prior}: expected a number between 0 and 1")
    if (calibration := model.calibration) is None:
        raise StudyError("the model has no calibration: learn it with `studylib calibrate`")
    warnings, crops = [], []
    for path in (first, second):
        waveform = read_waveform(path)
        crops.append(model.embed_crops(waveform))
        warnings += [f"{path}: {weakness}" for weakness in weaknesses(waveform)]
    if calibration["source"] == SYNTHETIC:
        warnings.append(
            "calibrated on synthetic voices: on your recordings the probability may be far off; "
            "learn it with `studylib calibrate`"
        )
    score = model.score(*crops)
    llr = calibration["scale"] * score + calibration["offset"]
    log_odds = llr + math.log(prior / (1 - prior))
    return {
        "score": score,
        "llr": llr,
        "probability": 0.5 + 0.5 * math.tanh(log_odds / 2),
        "same": log_odds >= 0,
        "prior": prior,
        "calibrated_on": calibration["corpus"],
        "warnings": warnings,
    }
