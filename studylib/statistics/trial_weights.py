"""How often each trial counts in resamples of the speakers.

In a resample speaker s occurs w_s times. A target trial of s then counts w_s times, a nontarget
trial of s and t counts w_s w_t times: both of its sides are resampled. All weights are whole
numbers or halves, so that their sums are exact.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from studylib.errors import StudyError

BLOCK = 2**21  # weights held at a time: 16 MB


@dataclass(frozen=True)
class TrialSpeakers:
    """What decides how often each trial counts, its unit: one of S speakers or of P pairs of them.

    Attributes
    ----------
    targets : (T,) bool
    unit : (T,) int32
        For a target trial its speaker, 0 ... S - 1 in the order of their names; for a nontarget
        trial S + its row of `pairs`.
    pairs : (P, 2) int
        The distinct unordered pairs of speakers that nontarget trials compare.
    names : (S,) str
    """

    targets: np.ndarray
    unit: np.ndarray
    pairs: np.ndarray
    names: tuple[str, ...]

    @property
    def n_units(self) -> int:
        return len(self.names) + len(self.pairs)


def trial_speakers(targets, first_speaker, second_speaker) -> TrialSpeakers:
    """Number the speakers and the pairs of speakers of a trial list.

    Parameters
    ----------
    targets : (T,) bool
    first_speaker, second_speaker : (T,) int or str
        The speaker on each side of each trial.

    Raises
    ------
    StudyError
        A target trial of two speakers or a nontarget trial of one, fewer than 3 speakers, or only
        one kind of trial.
    """
    targets, sides = np.asarray(targets, dtype=bool), np.stack([first_speaker, second_speaker])
    numbers, names = pd.factorize(sides.ravel(), sort=True)
    low, high = np.sort(numbers.reshape(sides.shape), axis=0)
    wrong = np.flatnonzero((low == high) != targets)
    if len(wrong):
        (one, other), kind = sides[:, wrong[0]], "target" if targets[wrong[0]] else "nontarget"
        raise StudyError(f"Trial {wrong[0]} of the speakers {one} and {other} is marked {kind}.")
    if len(names) < 3 or targets.all() or not targets.any():
        raise StudyError(
            f"A bootstrap needs target and nontarget trials of at least 3 speakers, not "
            f"{targets.sum()} target trials among {len(targets)} of {len(names)} speakers."
        )
    codes, rows = np.unique((low * len(names) + high)[~targets], return_inverse=True)
    unit = low.astype(np.int32)
    unit[~targets] = len(names) + rows
    pairs = np.stack(np.divmod(codes, len(names)), axis=1)
    return TrialSpeakers(targets, unit, pairs, tuple(map(str, names)))


def speaker_resamples(trials: TrialSpeakers, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights (S + P, B) of `n_resamples` draws of as many speakers, with replacement, in blocks.

    A draw without any target or any nontarget trial has no error rate and is made again; with the
    speakers of a real list that practically never happens.
    """
    generator = np.random.default_rng(seed)
    n, (low, high) = len(trials.names), trials.pairs.T
    with_targets = np.unique(trials.unit[trials.targets])
    for size in _block_sizes(n, n_resamples):
        weights, again = np.empty((trials.n_units, size)), np.ones(size, dtype=bool)
        while again.any():
            drawn = generator.multinomial(n, np.full(n, 1 / n), size=again.sum())
            weights[:n, again] = drawn.T
            np.multiply(weights[low], weights[high], out=weights[n:])
            again = ~(weights[with_targets].any(axis=0) & weights[n:].any(axis=0))
        yield weights


def pair_perturbations(trials: TrialSpeakers, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Weights (S + P, B) of 1/2 or 3/2, drawn for each pair of speakers alone; targets count once.

    Four times the variance of an error rate under these weights is the noise of the pairs: what
    would remain of its variance if speakers had no effect beyond the single pair. They are drawn
    for all pairs of the speakers, whichever the list compares, so that a pair has the same weights
    in every list of these speakers.
    """
    generator = np.random.default_rng([seed, 1])
    n, (low, high) = len(trials.names), trials.pairs.T
    places = low * (2 * n - low - 1) // 2 + high - low - 1  # among all pairs, in order
    for size in _block_sizes(n, n_resamples):
        weights = np.ones((trials.n_units, size))
        halves = generator.integers(0, 2, size=(n * (n - 1) // 2, size), dtype=np.int8)
        np.add(halves[places], 0.5, out=weights[n:])
        yield weights


def _block_sizes(n_speakers: int, n_resamples: int) -> list[int]:
    """The same for all lists of the same speakers."""
    most = max(16, BLOCK // max(n_speakers * (n_speakers - 1) // 2, n_speakers))
    return [min(most, n_resamples - start) for start in range(0, n_resamples, most)]
