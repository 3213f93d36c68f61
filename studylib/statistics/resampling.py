"""Error rates of several runs on the same resamples of a trial list's speakers.

A trial list has many trials but few speakers: VoxCeleb1-O has 37,720 trials of 40 speakers. Trials
that share a speaker are not independent, so the speakers are resampled, both sides of a nontarget
trial, and every run is measured on the same resamples: differences between runs are paired.

In a resample speaker s occurs w_s times. A target trial of s then counts w_s times, a nontarget
trial of s and t counts w_s w_t times. All weights are whole numbers or halves, so that their sums
are exact.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from studylib.errors import StudyError
from studylib.statistics.trials import TrialSpeakers, read_measures, sort_trials, trial_speakers

BLOCK = 2**21  # weights held at a time: 16 MB
COLUMNS = 32  # of weights processed at a time: their results stay in the processor's cache


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


@dataclass(frozen=True)
class Resamples:
    """One measure of R runs on the same resamples of the test speakers.

    Attributes
    ----------
    runs : (R,) str
    estimates : (R,) float64
    speakers : (R, B) float64
        In each resample of the speakers.
    pairs : (R, B) float64
        Under perturbed weights of the speaker pairs alone (`pair_perturbations`).
    speaker_names : (S,) str
    floor : float
        Half a target trial, or half the smallest estimate if that is less: what a measure of 0
        counts as when its logarithm is taken.
    ceiling : float
        No value is higher.
    """

    runs: tuple[str, ...]
    estimates: np.ndarray
    speakers: np.ndarray
    pairs: np.ndarray
    speaker_names: tuple[str, ...]
    floor: float
    ceiling: float = 1.0

    @property
    def n_speakers(self) -> int:
        return len(self.speaker_names)


def bootstrap(
    scores: Mapping[str, np.ndarray],
    targets,
    first_speaker,
    second_speaker,
    *,
    measures: Sequence[str] = ("eer",),
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Resamples]:
    """Resample the speakers of one trial list for all runs and all measures jointly.

    Each run's scores are sorted once. The memory grows by some 20 bytes a trial and run, and by
    what a block of resamples needs.

    Parameters
    ----------
    scores : run -> (T,) float
        Each run's scores of the same trials in the same order. Cllr takes them as log-likelihood
        ratios; the other measures do not change when scores are calibrated.
    targets : (T,) bool
    first_speaker, second_speaker : (T,) int or str
    measures : of "eer", "min_dcf_0.01", "min_dcf_0.05" and "cllr"
    n_resamples : int
    seed : int
        The same seed and list give the same resamples, whatever the runs.

    Raises
    ------
    StudyError
        What `trial_speakers` refuses.
    """
    trials = trial_speakers(targets, first_speaker, second_speaker)
    ordered = [sort_trials(values, trials) for values in scores.values()]

    def read(blocks: Iterable[np.ndarray]) -> np.ndarray:
        parts = []
        for weights in blocks:
            for start in range(0, weights.shape[1], COLUMNS):
                part = np.ascontiguousarray(weights[:, start : start + COLUMNS])
                parts.append([read_measures(run, part, measures) for run in ordered])
        return np.concatenate(parts, axis=2).swapaxes(0, 1)  # (measures, runs, resamples)

    estimates = read([np.ones((trials.n_units, 1))])[:, :, 0]
    speakers = read(speaker_resamples(trials, n_resamples, seed))
    pairs = read(pair_perturbations(trials, n_resamples, seed))
    return {
        measure: Resamples(
            runs=tuple(scores),
            estimates=values,
            speakers=speakers[number],
            pairs=pairs[number],
            speaker_names=trials.names,
            floor=0.5 * min([1 / trials.targets.sum(), *values[values > 0]]),
            ceiling=np.inf if measure == "cllr" else 1.0,
        )
        for number, (measure, values) in enumerate(zip(measures, estimates, strict=True))
    }


def ratios(main: Resamples, other: Resamples, name: str) -> Resamples:
    """Each run's error rate on another trial list of the same speakers over that on the main one.

    The ratio is formed in each resample, because speakers and pairs of speakers have the same
    weights in both lists. A seed has similar effects on both lists, so most of them cancel.

    Parameters
    ----------
    main, other : Resamples
        Of the same runs, with the same seed.
    name : str
        Of the other list, for messages.

    Raises
    ------
    StudyError
        The other list has other speakers.
    """
    if main.speaker_names != other.speaker_names:
        raise StudyError(f"The list {name} cannot be compared: it has other speakers.")
    assert main.runs == other.runs
    parts = {
        part: np.maximum(getattr(other, part), other.floor)
        / np.maximum(getattr(main, part), main.floor)
        for part in ("estimates", "speakers", "pairs")
    }
    return replace(main, **parts, floor=0.0, ceiling=np.inf)
