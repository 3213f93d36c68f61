"""Training batches of crops, read in the background."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studylib.corpora.store import SAMPLE_RATE, Corpus
from studylib.errors import StudyError
from studylib.training.sampling import BatchSampler, crop_starts


@dataclass(frozen=True)
class TrainingData:
    """The training utterances of a corpus: their rows, and each one's speaker as a number.

    Attributes
    ----------
    corpus : Corpus
    rows : (U,) int
        Rows of the corpus.
    speakers : (U,) int64
        0 ... C-1, in the order of `names`.
    names : (C,) str
    """

    corpus: Corpus
    rows: np.ndarray
    speakers: np.ndarray
    names: np.ndarray


def training_data(corpus: Corpus, n_speakers: int | None = None) -> TrainingData:
    """The utterances of the split `train`, of all its speakers or of the first so many.

    The first in the corpus's order, whatever the seed: a larger number includes the speakers of a
    smaller one.

    Raises
    ------
    StudyError
        If there are fewer speakers than asked for.
    """
    rows = np.flatnonzero(corpus.utterances["split"] == "train")
    speakers = corpus.utterances["speaker"].iloc[rows].astype(str)
    there = speakers.unique()
    if n_speakers and n_speakers > len(there):
        raise StudyError(
            f"train.training_speakers is {n_speakers}, but {corpus.folder} has only {len(there)} "
            f"training speakers: expected at most {len(there)}, or null for all"
        )
    kept = speakers.isin(there[:n_speakers]).to_numpy()
    names, numbers = np.unique(speakers.to_numpy(str)[kept], return_inverse=True)
    return TrainingData(corpus, rows[kept], numbers, names)


def read_batches(
    data: TrainingData,
    sampler: BatchSampler,
    steps: range,
    crop_seconds: float,
    places: np.ndarray | slice,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw the batches of these steps and read their crops; for CUDA, into page-locked memory.

    Parameters
    ----------
    places : (b,) int, or slice
        Places in the batch of the crops to read, in this order.

    Yields
    ------
    (b, S) int16
        The crops.
    (N,) int64
        The speakers of the whole batch.
    """
    crop, pinned = round(crop_seconds * SAMPLE_RATE), device.type == "cuda"
    lengths = data.corpus.utterances["length"].to_numpy()[data.rows]
    for step, batch in zip(steps, sampler.batches(steps.start), strict=False):
        starts = crop_starts(lengths[batch.ravel()], crop, seed=sampler.seed, step=step)[places]
        utterances = batch.ravel()[places]
        samples = torch.empty((len(utterances), crop), dtype=torch.int16, pin_memory=pinned)
        data.corpus.crops(data.rows[utterances], starts, crop, out=samples.numpy())
        labels = torch.from_numpy(data.speakers[batch[:, 0]])
        yield samples, labels.pin_memory() if pinned else labels


def prefetch(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, each made by a thread while the caller works on the one before."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        ahead = thread.submit(next, items, end)
        while (item := ahead.result()) is not end:
            ahead = thread.submit(next, items, end)
            yield item
