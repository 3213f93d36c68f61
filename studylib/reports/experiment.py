"""What experiment.ipynb shows of one run: a training batch, and the trials it gets most wrong."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import Tensor

from studylib.corpora.store import Corpus
from studylib.evaluation.scores import trial_scores
from studylib.reports.corpus import player
from studylib.reports.embeddings import misjudged, wrong_then_right
from studylib.training.learner import build_learner, scheduled
from studylib.training.loading import read_batches, training_data
from studylib.training.sampling import BatchSampler
from studylib.training.settings import RunSettings

SHOWN_SPEAKERS = 16
MEASURES = ["eer", "from", "to", "min_dcf_0.01", "cllr", "min_cllr"]
CPU = torch.device("cpu")


@dataclass(frozen=True)
class View:
    """A batch of N speakers with M crops each, embedded by one network.

    Attributes
    ----------
    embeddings : (N, M, D) float32 tensor
    similarities : (N * M, N * M) array
        Of each crop to each other, as the run's trials are scored.
    loss : float
    """

    embeddings: Tensor
    similarities: np.ndarray
    loss: float


@torch.no_grad()
def view_batch(settings: RunSettings, corpus: Corpus, seed: int, model: Path | None = None) -> View:
    """The first batch that a run trains on, of at most 16 of its speakers.

    With the run's initial weights, or with the trained model and loss of a folder. As in training,
    batch normalisation takes the batch's statistics, and the loss's scheduled numbers are those of
    the run's start or, for a trained model, of its end.
    """
    train = settings.train.model_copy(update={"compile": False})
    settings = settings.model_copy(update={"train": train})
    data = training_data(corpus, train.training_speakers)
    shape = min(SHOWN_SPEAKERS, train.speakers_per_batch), train.utterances_per_speaker
    sampler, places = BatchSampler(data.speakers, train, seed), np.arange(shape[0] * shape[1])
    drawn = read_batches(data, sampler, range(1), train.crop_seconds, places, CPU)
    samples, labels = next(drawn)

    learner = build_learner(settings, len(data.names), seed, CPU)
    if model is not None:
        learner.model.trunk.load_state_dict(load_file(model / "model.safetensors"))
        learner.criterion.load_state_dict(load_file(model / "loss.safetensors"))
        for name, number in scheduled(settings, 1.0).items():
            setattr(learner.criterion, name, number)
    flat = learner.model(samples)
    embeddings = flat.unflatten(0, shape)
    loss = learner.criterion(embeddings, labels[: shape[0]]).item()
    first, second = np.indices((len(flat), len(flat))).reshape(2, -1)
    crops = flat[:, None].numpy()  # each crop is one side of a trial
    scores = trial_scores(crops, first, second, scoring=learner.criterion.scoring)
    return View(embeddings, scores.reshape(len(flat), -1), loss)


def measure_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """EER and its 95 % interval (%), costs and bits by back-end and trial list, rounded."""
    backends = {metrics["backend"]: metrics} | metrics["further_backends"]
    parts = {backend: pd.DataFrame(part["lists"]).T for backend, part in backends.items()}
    table = pd.concat(parts)
    table[["from", "to"]] = table["eer_interval"].tolist()
    table = table.filter(MEASURES).astype(float)
    table[["eer", "from", "to"]] *= 100
    return table.round(3).rename(columns={"eer": "EER (%)"})


def worst_trials(scores: pd.DataFrame, *, target: bool, n: int = 10) -> pd.DataFrame:
    """The target trials with the lowest scores, or the nontarget trials with the highest.

    Parameters
    ----------
    scores : frame
        score, target, first, second, first_speaker, second_speaker: scores/<list>.parquet.
    """
    trials = scores[scores["target"] == target].sort_values("score", ascending=target)
    return trials[["score", "first_speaker", "second_speaker", "first", "second"]].head(n)


def disagreements(trials: pd.DataFrame, wrong: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """The trials that one run gets wrong and another right, in the form of `worst_trials`.

    Parameters
    ----------
    trials : frame
        target, first, second, first_speaker, second_speaker.
    wrong, right : (T,) float
        The scores of the two runs. A trial is judged at each run's threshold of equal errors.
    """
    targets = trials["target"].to_numpy()
    chosen = wrong_then_right(misjudged(wrong, targets), misjudged(right, targets))
    columns = ["target", "first_speaker", "second_speaker", "first", "second"]
    return trials.iloc[chosen][columns].assign(wrong=wrong[chosen], right=right[chosen])


def with_players(trials: pd.DataFrame, corpus: Corpus) -> str:
    """The trials as an HTML table in which both sides can be listened to."""
    shown = trials.copy()
    for side in ("first", "second"):
        sounds = (player(corpus.samples(row)).src_attr() for row in trials[side])
        shown[side] = [f'<audio controls preload="none" src="{sound}"></audio>' for sound in sounds]
    return shown.round(3).to_html(escape=False, index=False)
