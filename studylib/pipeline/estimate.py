"""What a study costs before it starts: training crops, and hours at a given speed."""

import math

import pandas as pd

from studylib.pipeline.params import Params, run_settings


def study_crops(params: Params) -> pd.Series:
    """Training crops of all runs and seeds, by trunk; a run ends with a whole batch."""
    crops: dict[str, int] = {}
    for name in params.study.runs:
        settings = run_settings(params, name)
        batch = settings.train.speakers_per_batch * settings.train.utterances_per_speaker
        own = math.ceil(settings.train.crops / batch) * batch * len(params.study.seeds)
        crops[settings.trunk.name] = crops.get(settings.trunk.name, 0) + own
    return pd.Series(crops, name="crops")


def estimate(params: Params, crops_per_second: float | None) -> str:
    """A sentence: the crops of each trunk and, where a speed is given, the hours of training."""
    crops = study_crops(params)
    by_trunk = ", ".join(f"{trunk} {number:,}" for trunk, number in crops.items())
    text = f"{crops.sum():,} training crops in all ({by_trunk})"
    if crops_per_second is None:
        return f"{text}; --crops-per-second, as `studylib trunks` measures it, gives the hours"
    return f"{text}: about {crops.sum() / crops_per_second / 3600:.1f} hours of training"
