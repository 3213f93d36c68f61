"""Batches of N speakers x M utterances, each a pure function of (seed, epoch, position).

No batch holds two groups of one speaker: its second group would appear among the negatives of the
first. Utterances that an epoch cannot place are counted, and settings that could place none are
refused.
"""

import itertools
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from studylib.errors import StudyError
from studylib.training.settings import TrainSettings

# Streams of random numbers: no two uses of one seed share a draw.
_EPOCH_STREAM, _CROP_STREAM, _AUGMENTATION_STREAM = 1, 2, 3


class BatchSampler:
    """Draws the batches of each epoch.

    Parameters
    ----------
    speakers : (U,) int array
        The speaker of each training utterance, 0 ... C-1.
    settings : TrainSettings
        Batches of `speakers_per_batch` N x `utterances_per_speaker` M; at most
        `max_utterances_per_speaker` of each speaker an epoch, drawn anew each epoch (paper B: 100).
    seed : int
        The run's seed.

    Raises
    ------
    StudyError
        If fewer than N speakers have M utterances.
    """

    def __init__(self, speakers: np.ndarray, settings: TrainSettings, seed: int) -> None:
        self.n, self.m = settings.speakers_per_batch, settings.utterances_per_speaker
        self.most, self.seed = settings.max_utterances_per_speaker, seed
        order = np.argsort(speakers, kind="stable")
        boundaries = np.flatnonzero(np.diff(speakers[order])) + 1
        self._rows_of_speaker = np.split(order, boundaries)
        usable = sum(len(rows) >= self.m for rows in self._rows_of_speaker)
        if usable < self.n:
            raise StudyError(
                f"train.speakers_per_batch is {self.n}, but only {usable} training speakers have "
                f"at least {self.m} utterance{'s' * (self.m > 1)}: expected at most {usable}"
            )

    def epoch(self, number: int) -> np.ndarray:
        """The batches of one epoch: utterance rows, (batches, N, M).

        Each speaker's utterances are shuffled and cut into groups of M. A batch takes one group
        from each of the N speakers with the most groups left (ties at random), which places as many
        groups as any rule can; then the batches are shuffled.
        """
        rng = np.random.default_rng([_EPOCH_STREAM, self.seed, number])
        shuffled = [rng.permutation(rows)[: self.most] for rows in self._rows_of_speaker]
        groups = [rows[: len(rows) // self.m * self.m].reshape(-1, self.m) for rows in shuffled]
        left = np.array([len(g) for g in groups])
        batches = []
        while np.count_nonzero(left) >= self.n:
            priority = left + rng.random(len(left))
            chosen = np.argpartition(-priority, self.n - 1)
            chosen = rng.permutation(chosen[: self.n])
            left[chosen] -= 1
            batches.append(np.stack([groups[speaker][left[speaker]] for speaker in chosen]))
        return rng.permutation(np.stack(batches))

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches an epoch: the same for every epoch, since only ties are broken at random."""
        return len(self.epoch(0))

    @property
    def unplaced_share(self) -> float:
        """The share of an epoch's utterances (after the maximum) that finds no batch."""
        available = sum(min(len(rows), self.most) for rows in self._rows_of_speaker)
        placed = self.steps_per_epoch * self.n * self.m
        return 1.0 - placed / available

    def batches(self, first_step: int = 0) -> Iterator[np.ndarray]:
        """Endless batches (N, M), from step `first_step` on, as if all before had been drawn."""
        first_epoch, skipped = divmod(first_step, self.steps_per_epoch)
        for number in itertools.count(first_epoch):
            yield from self.epoch(number)[skipped:]
            skipped = 0


def crop_starts(lengths: np.ndarray, crop: int, *, seed: int, step: int) -> np.ndarray:
    """Random starts of crops of `crop` samples, one for each utterance length of a batch.

    Uniform over all positions where the crop fits; 0 where the utterance is shorter than the crop.
    A pure function of (seed, step): a resumed run cuts the crops it would have cut.
    """
    rng = np.random.default_rng([_CROP_STREAM, seed, step])
    return rng.integers(0, np.maximum(lengths - crop, 0) + 1)


def augmentation_seed(*, seed: int, step: int) -> int:
    """The seed of what a step's augmentation draws; a pure function of (seed, step) as well."""
    return int(np.random.default_rng([_AUGMENTATION_STREAM, seed, step]).integers(2**63))
