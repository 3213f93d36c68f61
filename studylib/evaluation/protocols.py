"""Utterances -> embeddings, by one of three test protocols.

- `crops`: evenly spaced crops, ten of 4 s in paper B; a trial's score is the mean over all pairs of
  a crop of one side and a crop of the other (scoring.py).
- `whole`: one embedding of the whole utterance.
- `windows`: the mean of the embeddings of sliding windows, as in paper A.
"""

from collections.abc import Callable

import numpy as np

from studylib.corpora.store import SAMPLE_RATE, Corpus
from studylib.errors import StudyError
from studylib.evaluation.settings import EvaluateSettings

# Corpus, its rows (U,), crops an utterance, seconds of a crop (None: whole) -> (U, crops, D).
EmbedCrops = Callable[[Corpus, np.ndarray, int, float | None], np.ndarray]
Training = tuple[np.ndarray, np.ndarray]  # embeddings (U, C, D), and each one's speaker (U,)


def embed_utterances(
    embed_crops: EmbedCrops, corpus: Corpus, rows: np.ndarray, settings: EvaluateSettings
) -> np.ndarray:
    """Embeddings (U, C, D) of the corpus rows (U,); C is 1 except for the protocol `crops`."""
    if settings.protocol == "crops":
        return embed_crops(corpus, rows, settings.crops, settings.crop_seconds)
    if settings.protocol == "whole":
        return embed_crops(corpus, rows, 1, None)
    seconds = corpus.utterances["length"].to_numpy()[rows] / SAMPLE_RATE
    windows = count_windows(seconds, settings.crop_seconds, settings.hop_seconds)
    alike = [np.flatnonzero(windows == count) for count in np.unique(windows)]
    means = [
        embed_crops(corpus, rows[part], int(windows[part[0]]), settings.crop_seconds).mean(axis=1)
        for part in alike
    ]
    return np.concatenate(means)[np.argsort(np.concatenate(alike)), None]


def count_windows(seconds: np.ndarray, window: float, hop: float) -> np.ndarray:
    """How many windows cover utterances from start to end, at most `hop` seconds apart, (U,)."""
    room = np.maximum(np.asarray(seconds) - window, 0)
    return 1 + np.ceil(room / hop - 1e-9).astype(np.int64)


def embed_training(
    embed_crops: EmbedCrops, corpus: Corpus, settings: EvaluateSettings
) -> Training | None:
    """Embeddings of training utterances by the same protocol, if a back-end learns from them."""
    if not set(settings.backends) & {"snorm", "plda"}:
        return None
    rows, speakers = training_rows(corpus)
    kept = few_of_each(speakers, settings.training_speakers, settings.training_utterances)
    embeddings = embed_utterances(embed_crops, corpus, rows[kept], settings)
    return embeddings, speakers[kept]


def training_rows(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training utterances (U,), and each one's speaker as a number 0 ... C - 1.

    Raises
    ------
    StudyError
        The corpus has no training utterances.
    """
    rows = np.flatnonzero(corpus.utterances["split"] == "train")
    if not len(rows):
        raise StudyError(f"{corpus.folder} has no training utterances: expected a split 'train'")
    names = corpus.utterances["speaker"].to_numpy()[rows].astype(str)
    return rows, np.unique(names, return_inverse=True)[1]


def few_of_each(speakers: np.ndarray, n_speakers: int, n_utterances: int) -> np.ndarray:
    """Rows of at most `n_speakers` speakers, `n_utterances` of each, evenly spread, ascending.

    Parameters
    ----------
    speakers : (U,) int
        0 ... C - 1, each at least once.
    """
    numbers = _evenly(np.arange(speakers.max() + 1), n_speakers)
    rows = [_evenly(np.flatnonzero(speakers == number), n_utterances) for number in numbers]
    return np.sort(np.concatenate(rows))


def _evenly(values: np.ndarray, most: int) -> np.ndarray:
    return values[np.linspace(0, len(values) - 1, min(len(values), most)).astype(int)]
