"""Training batches of crops, gathered in the background while the model works."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studylib.corpus.store import SAMPLE_RATE, Corpus
from studylib.errors import StudyError
from studylib.sampling import BatchSampler, crop_starts


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


def crop_batches(
    corpus: Corpus,
    data: TrainingData,
    sampler: BatchSampler,
    crop_seconds: float,
    steps: range,
    reads: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of these steps: crops (N * M, S) int16 and the labels (N,) of their speakers.

    With `reads`, places in the batch, only these of its crops are read, in this order.
    """
    crop = round(crop_seconds * SAMPLE_RATE)
    lengths = corpus.utterances["length"].to_numpy()[data.rows]
    for step, batch in zip(steps, sampler.batches(steps.start), strict=False):
        flat = batch.ravel()
        starts = crop_starts(lengths[flat], crop, seed=sampler.seed, step=step)
        if reads is not None:
            flat, starts = flat[reads], starts[reads]
        samples = corpus.crops(data.rows[flat], starts, crop)
        yield torch.from_numpy(samples), torch.from_numpy(data.speakers[batch[:, 0]])


def prefetch(batches: Iterator[Any], depth: int = 4) -> Iterator[Any]:
    """The same items, made by a thread while the caller works on those before."""
    made: queue.Queue = queue.Queue(depth)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
            put(end)
        except BaseException as error:
            put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := made.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
