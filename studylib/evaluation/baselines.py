"""Baselines: speaker verification without a learned network.

The mean and standard deviation over time of each log-mel band, compared by cosine after removing
the mean over the training utterances: as they are, or whitened by the within-speaker covariance of
the training speakers (a linear, supervised system; strong on clean channels).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from studylib.corpora.store import Corpus
from studylib.errors import StudyError
from studylib.evaluation.protocols import training_rows
from studylib.evaluation.run import write_evaluation
from studylib.evaluation.scores import speaker_means
from studylib.evaluation.settings import EvaluateSettings
from studylib.files.documents import unknown
from studylib.models.devices import available_cores
from studylib.models.embedder import INT16_RANGE, even_crops
from studylib.models.features import LogMel

MOST_TRAINING_UTTERANCES = 10_000  # enough for 80 x 80 covariances


def whitening(vectors: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """A matrix (D, D) that turns the within-speaker covariance of vectors (U, D) into identity."""
    means, numbers, counts = speaker_means(vectors, speakers)
    within = vectors - means[numbers]
    covariance = within.T @ within / max(len(vectors) - len(counts), 1)
    covariance += 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    values, directions = np.linalg.eigh(covariance)
    return directions / np.sqrt(values)


# Name -> from centred training vectors (U, D) and their speakers to a projection (D, D).
BASELINES = {
    "logmel_mean_std": lambda vectors, speakers: np.eye(vectors.shape[1]),
    "logmel_whitened": whitening,
}


def evaluate_baseline(
    name: str,
    corpus: Corpus,
    settings: EvaluateSettings,
    out: Path,
    *,
    manifest: Mapping[str, Any] = {},
    further: Sequence[Corpus] = (),
) -> dict[str, Any]:
    """Evaluate a baseline by the protocol of the networks and write `out` as `evaluate` does.

    Mean and whitening are those of the training utterances of `corpus`, on further corpora too.
    """
    if name not in BASELINES:
        raise StudyError(unknown("there is no baseline", name, BASELINES))
    print(f"{name}: protocol {settings.protocol}")
    torch.set_num_threads(settings.threads or available_cores())
    rows, speakers = training_rows(corpus)
    few = np.linspace(0, len(rows) - 1, min(len(rows), MOST_TRAINING_UTTERANCES)).astype(np.int64)
    training = mean_and_deviation(corpus, rows[few], 1, settings.crop_seconds)[:, 0]
    centre = training.mean(axis=0)
    projection = BASELINES[name](training - centre, speakers[few])

    def embed_crops(corpus, rows, crops, crop_seconds):
        vectors = mean_and_deviation(corpus, rows, crops, crop_seconds) - centre
        return (vectors @ projection).astype(np.float32)

    return write_evaluation(embed_crops, corpus, settings, out, "cosine", manifest, further)


def mean_and_deviation(
    corpus: Corpus, rows: np.ndarray, crops: int, crop_seconds: float | None
) -> np.ndarray:
    """Mean and standard deviation over time of 40 log-mel bands: (U, crops, 80) float64."""
    features = LogMel()
    lengths = corpus.utterances["length"].to_numpy()[rows]
    parts = []
    for part, starts, crop in even_crops(lengths, crops, crop_seconds):
        samples = corpus.crops(np.repeat(rows[part], crops), starts.ravel(), crop)
        frames = features(torch.from_numpy(samples).float() / INT16_RANGE).double()
        moments = torch.cat([frames.mean(2), frames.std(2, correction=0)], 1)
        parts.append(moments.numpy().reshape(-1, crops, moments.shape[1]))
    return np.concatenate(parts)
