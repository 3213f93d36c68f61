"""What a study costs before it starts: crops in all, and hours by the speed of this machine."""

import math
import time

import numpy as np
import pandas as pd
import torch

from studylib.corpora.reader import SAMPLE_RATE
from studylib.models.devices import choose_device
from studylib.pipeline.params import Params, run_settings
from studylib.training.acceleration import set_arithmetic
from studylib.training.learner import build_learner
from studylib.training.loop import TrainingStep
from studylib.training.settings import RunSettings

SPEAKERS = 1000  # of the loss that is timed; the corpus need not be there yet
LARGEST_ON_CPU = 64  # crops a timed batch; the speed hardly depends on it there, the memory does


def estimate(params: Params, *, crops_per_second: float | None, seconds: float) -> str:
    """A table of a study's training, one row a trunk, and what its hours leave out.

    Parameters
    ----------
    params : Params
    crops_per_second : float or None
        The training speed, if it is known; otherwise it is measured on this machine.
    seconds : float
        Spent on measuring each trunk, after one step to warm up; 0 gives crops without hours.
    """
    table = study_crops(params)
    total = table["crops"].sum()
    if crops_per_second is None and not seconds:
        return f"{table.to_string()}\n{total:,} training crops in all"
    source = "the speed given"
    if crops_per_second is None:
        speeds, source = [], f"{seconds:g} s of training steps on this machine, a trunk"
        for run in table["timed"]:
            speeds.append(measure_speed(run_settings(params, run), seconds))
    else:
        speeds = crops_per_second
    table["crops_per_second"] = speeds
    table["hours"] = table["crops"] / table["crops_per_second"] / 3600
    shown = table.to_string(
        formatters={"hours": "{:.2f}".format, "crops": "{:,}".format}, index=False
    )
    return (
        f"{shown}\n{total:,} training crops in all, about {_hours(table['hours'].sum())} one after "
        f"another by {source}; reading the corpus (if it is slower), measuring on the way, "
        f"evaluation and starting each stage come on top"
    )


def study_crops(params: Params) -> pd.DataFrame:
    """Trunk, runs (seeds counted), crops of all of them, and the run to time: the longest batch."""
    rows = []
    for name in params.study.runs:
        settings = run_settings(params, name)
        batch = settings.train.speakers_per_batch * settings.train.utterances_per_speaker
        crops = math.ceil(settings.train.crops / batch) * batch
        if crops:
            rows.append((settings.trunk.name, crops, batch, name))
    table = pd.DataFrame(rows, columns=["trunk", "crops", "batch", "timed"])
    seeds = len(params.study.seeds)
    by_trunk = table.sort_values("batch", kind="stable").groupby("trunk", sort=False)
    return pd.DataFrame(
        {
            "runs": by_trunk.size() * seeds,
            "crops": by_trunk["crops"].sum() * seeds,
            "timed": by_trunk["timed"].last(),
        }
    ).reset_index()


def measure_speed(settings: RunSettings, seconds: float) -> float:
    """Training crops a second: noise through the run's trunk, loss and optimizer."""
    device = choose_device(settings.train.device, settings.train.threads)
    set_arithmetic(settings.train, device)
    settings = timed_settings(settings, device)
    train = settings.train
    per_speaker, n_speakers = train.utterances_per_speaker, train.speakers_per_batch
    learner = build_learner(settings, max(SPEAKERS, n_speakers), 0, device)
    training_step = TrainingStep(settings, learner, 0, device)
    shape = (n_speakers * per_speaker, round(train.crop_seconds * SAMPLE_RATE))
    noise = np.random.default_rng(0).integers(-3000, 3000, shape, dtype=np.int16)
    samples, labels = torch.from_numpy(noise), torch.arange(n_speakers)

    def step() -> None:
        training_step(samples, labels, 0, 0.0).item()  # waits for the device

    step()
    steps, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        step()
        steps += 1
    return steps * shape[0] / (time.monotonic() - started)


def timed_settings(settings: RunSettings, device: torch.device) -> RunSettings:
    """The run's settings, with a batch that is soon embedded; in chunks if the run's own is."""
    train = settings.train
    per_speaker, n_speakers = train.utterances_per_speaker, train.speakers_per_batch
    chunk, chunked = train.chunk_crops, 0 < train.chunk_crops < n_speakers * per_speaker
    if device.type == "cpu":
        largest = 2 * LARGEST_ON_CPU if chunked else LARGEST_ON_CPU
        n_speakers = min(n_speakers, max(2, largest // per_speaker))
        chunk = min(chunk, LARGEST_ON_CPU)
    changes = {"speakers_per_batch": n_speakers, "chunk_crops": chunk, "initial_weights": None}
    return settings.model_copy(update={"train": train.model_copy(update=changes)})


def _hours(hours: float) -> str:
    return f"{hours:,.0f} hours" if hours >= 10 else f"{hours:.1f} hours"
