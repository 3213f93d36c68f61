"""Training batches of crops, gathered in the background or on the device itself."""

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from studylib.corpora.store import SAMPLE_BYTES, SAMPLE_RATE, Corpus
from studylib.errors import StudyError
from studylib.training.sampling import BatchSampler, crop_starts

QUEUE_BYTES = 2**28  # of crops that wait for their step; at least one batch does


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


class Loader:
    """Reads the crops of training batches, and brings them to a device.

    Either crops are copied from the corpus's files by a thread in the background, on CUDA through
    page-locked memory, so that nobody waits for the copy to the device; or all training audio lies
    in the device's memory, and a batch is one gather there.

    Parameters
    ----------
    corpus : Corpus
    data : TrainingData
    crop_seconds : float
    device : torch.device
    audio : str
        "memory_map", "device", or "auto": on CUDA the device if the audio takes less than half of
        its free memory, else the memory map.
    pinned : bool
        Page-locked memory, on CUDA.

    Raises
    ------
    StudyError
        If the audio is to lie in a GPU's memory, which has too little left.
    """

    def __init__(
        self,
        corpus: Corpus,
        data: TrainingData,
        crop_seconds: float,
        device: torch.device,
        *,
        audio: str,
        pinned: bool,
    ) -> None:
        self.corpus, self.data, self.device = corpus, data, device
        self.crop = round(crop_seconds * SAMPLE_RATE)
        self.lengths = corpus.utterances["length"].to_numpy()[data.rows]
        self.pinned = pinned and device.type == "cuda"
        resides = _is_to_reside(audio, device, SAMPLE_BYTES * int(self._room().sum()))
        self.resident = self._resident_audio() if resides else None

    def batches(
        self,
        sampler: BatchSampler,
        steps: range,
        *,
        reads: np.ndarray | None = None,
        at_once: int = 0,
    ) -> Iterator[tuple["Tensor | UnreadCrops", Tensor]]:
        """The batches of these steps.

        Parameters
        ----------
        sampler : BatchSampler
        steps : range
        reads : (b,) int, optional
            Places in the batch: only these of its crops are read, in this order.
        at_once : int
            If a batch has more crops than this, they are left unread, for the step to read them in
            chunks; 0 always reads them.

        Yields
        ------
        (N * M, S) or (b, S) int16, or UnreadCrops
            The crops.
        (N,) int64
            The speakers of the whole batch.
        """
        drawn = self.drawn(sampler, steps, reads)
        size = sampler.speakers_per_batch * sampler.utterances_per_speaker
        unread = 0 < at_once < size
        if unread or self.resident is not None:
            for crops, labels in prefetch(drawn):
                yield crops if unread else crops.to(self.device), self._sent(labels)
            return
        depth = QUEUE_BYTES // (SAMPLE_BYTES * size * self.crop)
        read = ((crops.read(), labels) for crops, labels in drawn)
        for samples, labels in prefetch(read, depth=min(max(depth, 1), 4)):
            yield self._sent(samples), self._sent(labels)

    def drawn(
        self, sampler: BatchSampler, steps: range, reads: np.ndarray | None = None
    ) -> Iterator[tuple["UnreadCrops", Tensor]]:
        """The same batches, nothing read yet."""
        for step, batch in zip(steps, sampler.batches(steps.start), strict=False):
            flat = batch.ravel()
            starts = crop_starts(self.lengths[flat], self.crop, seed=sampler.seed, step=step)
            if reads is not None:
                flat, starts = flat[reads], starts[reads]
            labels = self._host_tensor(self.data.speakers[batch[:, 0]])
            yield UnreadCrops(self, flat, starts), labels

    def read(self, utterances: np.ndarray, starts: np.ndarray) -> Tensor:
        """Crops (B, S) int16: on the device if all audio lies there, else on the host."""
        if self.resident is not None:
            places = self._sent(self._host_tensor(self._begins[utterances] + starts))
            return self.resident.unfold(0, self.crop, 1)[places]
        shape = (len(utterances), self.crop)
        samples = torch.empty(shape, dtype=torch.int16, pin_memory=self.pinned)
        self.corpus.crops(self.data.rows[utterances], starts, self.crop, out=samples.numpy())
        return samples

    def _room(self) -> np.ndarray:
        """Samples kept of each utterance: a short one is repeated to the length of a crop."""
        return np.maximum(self.lengths, self.crop)

    def _resident_audio(self) -> Tensor:
        room = self._room()
        self._begins = np.cumsum(room) - room
        audio = torch.empty(int(room.sum()), dtype=torch.int16, device=self.device)
        places = zip(self.data.rows, self._begins.tolist(), room.tolist(), strict=True)
        for row, begin, length in places:
            samples = self.corpus.crops(np.array([row]), np.array([0]), length)[0]
            audio[begin : begin + length] = torch.from_numpy(samples)
        return audio

    def _host_tensor(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self.pinned else tensor

    def _sent(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=self.pinned)


@dataclass(frozen=True)
class UnreadCrops:
    """Crops of a batch that are read when they are needed: of a large batch, chunk by chunk.

    What a training step does with a batch's tensor, it can do with these.
    """

    loader: Loader
    utterances: np.ndarray  # (B,)
    starts: np.ndarray  # (B,)

    def __len__(self) -> int:
        return len(self.utterances)

    def split(self, sizes: list[int]) -> list["UnreadCrops"]:
        """Consecutive parts of these sizes."""
        ends = np.cumsum(sizes)[:-1]
        parts = zip(np.split(self.utterances, ends), np.split(self.starts, ends), strict=True)
        return [UnreadCrops(self.loader, *part) for part in parts]

    def read(self) -> Tensor:
        """(B, S) int16, on the host or where all audio lies."""
        return self.loader.read(self.utterances, self.starts)

    def to(self, device: torch.device, non_blocking: bool = False) -> Tensor:
        """(B, S) int16 on the device."""
        return self.read().to(device, non_blocking=non_blocking)


def read_ahead(chunks: Sequence[UnreadCrops | Tensor]) -> Iterator[UnreadCrops | Tensor]:
    """The crops of these chunks, read by a thread in the background if they lie in files."""
    if isinstance(chunks[0], UnreadCrops) and chunks[0].loader.resident is None:
        yield from prefetch((chunk.read() for chunk in chunks), depth=2)
    else:
        yield from chunks


def _is_to_reside(audio: str, device: torch.device, needed: int) -> bool:
    if audio == "memory_map" or (audio == "auto" and device.type != "cuda"):
        return False
    if device.type != "cuda":
        return True
    free = torch.cuda.mem_get_info(device)[0]
    if audio == "device" and needed > free:
        raise StudyError(
            f"train.audio is device, but the training audio takes {needed / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free there: expected auto or memory_map"
        )
    return audio == "device" or needed < free / 2


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
