"""Training batches of crops, read in the background."""

from collections import deque
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

READ_AHEAD = 2  # batches


@dataclass(frozen=True)
class TrainingData:
    """The training utterances of a corpus: their rows, and each one's speaker as a number.

    Attributes
    ----------
    rows : (U,) int
        Rows of the corpus.
    speakers : (U,) int64
        0 ... C-1, in the order of `names`.
    names : (C,) str
    """

    rows: np.ndarray
    speakers: np.ndarray
    names: np.ndarray


def training_data(corpus: Corpus, n_speakers: int | None = None) -> TrainingData:
    """The utterances of the split `train`, of all its speakers or of the first so many.

    The first in the corpus's order, whatever the seed: of two numbers, the smaller's speakers are
    among the larger's, so that a curve over numbers of speakers only ever adds some.

    Raises
    ------
    StudyError
        If there are no training utterances, or fewer speakers than asked for.
    """
    rows = np.flatnonzero((corpus.utterances["split"] == "train").to_numpy())
    if not len(rows):
        raise StudyError(f"{corpus.folder} has no training utterances: expected a split 'train'")
    of_row = corpus.utterances["speaker"].to_numpy()[rows].astype(str)
    names, first_places = np.unique(of_row, return_index=True)
    if n_speakers is not None:
        if n_speakers > len(names):
            raise StudyError(
                f"train.training_speakers is {n_speakers}, but {corpus.folder} has only "
                f"{len(names)} training speakers: expected at most {len(names)}, or null for all"
            )
        names = names[np.sort(np.argsort(first_places)[:n_speakers])]
        kept = np.isin(of_row, names)
        rows, of_row = rows[kept], of_row[kept]
    return TrainingData(rows, np.searchsorted(names, of_row).astype(np.int64), names)


def read_batches(
    corpus: Corpus,
    data: TrainingData,
    sampler: BatchSampler,
    steps: range,
    crop_seconds: float,
    places: np.ndarray | None,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draw the batches of these steps and read their crops; for CUDA, into page-locked memory.

    Parameters
    ----------
    places : (b,) int or None
        Places in the batch: only these of its crops are read, in this order; None reads all.

    Yields
    ------
    (N * M, S) or (b, S) int16
        The crops.
    (N,) int64
        The speakers of the whole batch.
    """
    crop, pinned = round(crop_seconds * SAMPLE_RATE), device.type == "cuda"
    lengths = corpus.utterances["length"].to_numpy()[data.rows]
    for step, batch in zip(steps, sampler.batches(steps.start), strict=False):
        utterances = batch.ravel()
        starts = crop_starts(lengths[utterances], crop, seed=sampler.seed, step=step)
        if places is not None:
            utterances, starts = utterances[places], starts[places]
        samples = torch.empty((len(utterances), crop), dtype=torch.int16, pin_memory=pinned)
        corpus.crops(data.rows[utterances], starts, crop, out=samples.numpy())
        labels = torch.from_numpy(data.speakers[batch[:, 0]])
        yield samples, labels.pin_memory() if pinned else labels


def prefetch(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, made by a thread while the caller works on those before."""
    end = object()
    with ThreadPoolExecutor(max_workers=1) as thread:
        ready = deque(thread.submit(next, items, end) for _ in range(READ_AHEAD))
        try:
            while (item := ready.popleft().result()) is not end:
                ready.append(thread.submit(next, items, end))
                yield item
        finally:
            thread.shutdown(cancel_futures=True)
