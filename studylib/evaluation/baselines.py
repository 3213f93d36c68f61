"""What a loss must beat: speaker verification without any learned network.

- `logmel_mean_std`: the mean and standard deviation over time of each log-mel band, compared by
  cosine after removing the mean over the training utterances.
- `logmel_whitened`: the same vector, whitened by the within-speaker covariance of the training
  speakers (a linear, supervised system; strong on clean channels).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from studylib.corpora.store import Corpus
from studylib.evaluation.evaluate import evaluated_rows, write_evaluation
from studylib.evaluation.settings import EvaluateSettings
from studylib.models.devices import available_cores
from studylib.models.embedder import INT16_RANGE, even_crops
from studylib.models.features import LogMel
from studylib.pipeline.provenance import start_manifest
from studylib.training.loading import training_data

MOST_TRAINING_UTTERANCES = 10_000  # enough for 80 x 80 covariances


def evaluate_baseline(
    name: str,
    corpus: Corpus,
    settings: EvaluateSettings,
    out: Path,
    *,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Evaluate a baseline by the protocol of the networks and write `out` as `evaluate` does."""
    torch.set_num_threads(settings.threads or available_cores())
    manifest = start_manifest(settings.model_dump(mode="json"), None, "cpu", __file__)
    trials = {each: corpus.trials(each) for each in settings.trials}
    report(f"{name}: {len(evaluated_rows(trials)):,} utterances, protocol {settings.protocol}")
    data = training_data(corpus)
    few = np.linspace(0, len(data.rows) - 1, min(len(data.rows), MOST_TRAINING_UTTERANCES))
    few = np.unique(few.astype(np.int64))
    training = mean_and_deviation(corpus, data.rows[few], 1, settings.crop_seconds)[:, 0]
    centre, projection = training.mean(axis=0), np.eye(training.shape[1])
    if name == "logmel_whitened":
        projection = whitening(training - centre, data.speakers[few])

    def embed_crops(rows, crops, crop_seconds):
        vectors = mean_and_deviation(corpus, rows, crops, crop_seconds) - centre
        return (vectors @ projection).astype(np.float32)

    manifest |= {"scoring": "cosine"}
    return write_evaluation(
        embed_crops, corpus, trials, settings, out, scoring="cosine", manifest=manifest
    )


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


def whitening(vectors: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """A matrix (D, D) that turns the within-speaker covariance of vectors (U, D) into identity."""
    within = vectors - pd.DataFrame(vectors).groupby(speakers).transform("mean").to_numpy()
    degrees = max(len(vectors) - len(np.unique(speakers)), 1)
    covariance = within.T @ within / degrees
    covariance += 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    values, directions = np.linalg.eigh(covariance)
    return directions / np.sqrt(values)
