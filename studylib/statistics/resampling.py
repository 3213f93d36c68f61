"""Error rates of several runs on the same resamples of a trial list's speakers.

A trial list has many trials but few speakers: VoxCeleb1-O has 37,720 trials of 40 speakers. Trials
that share a speaker are not independent, so the speakers are resampled, both sides of a nontarget
trial, and every run is read on the same resamples: differences between runs are paired.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from studylib.errors import StudyError
from studylib.statistics.sorted_trials import read_measures, sort_trials
from studylib.statistics.trial_weights import (
    pair_perturbations,
    speaker_resamples,
    trial_speakers,
)

COLUMNS = 32  # of weights read at a time: what is read of them stays in the processor's cache


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
        Under perturbed weights of the speaker pairs alone (`trial_weights.pair_perturbations`).
    speaker_names : (S,) str
    seed : int
        Lists of the same speakers, resampled with the same seed, draw the same speakers.
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
    seed: int
    floor: float
    ceiling: float = 1.0

    @property
    def n_speakers(self) -> int:
        return len(self.speaker_names)

    def rows(self, runs: Sequence[str]) -> list[int]:
        """Row numbers of the named runs."""
        return [self.runs.index(run) for run in runs]


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
        What `trial_speakers` and `sort_trials` refuse.
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
            seed=seed,
            floor=0.5 * min([1 / trials.targets.sum(), *values[values > 0]]),
            ceiling=np.inf if measure == "cllr" else 1.0,
        )
        for number, (measure, values) in enumerate(zip(measures, estimates, strict=True))
    }


def ratios(main: Resamples, other: Resamples, name: str) -> Resamples:
    """Each run's error rate on another trial list of the same speakers over that on the main one.

    The ratio is formed in each resample, for speakers, and pairs of speakers, are drawn alike in
    both lists. What a seed makes of a run it makes on both lists, so most of it cancels.

    Parameters
    ----------
    main, other : Resamples
        Of the same runs.
    name : str
        Of the other list, for messages.

    Raises
    ------
    StudyError
        The other list has other speakers.
    """
    if main.speaker_names != other.speaker_names:
        raise StudyError(f"The list {name} cannot be compared: it has other speakers.")
    assert (main.seed, main.speakers.shape[1]) == (other.seed, other.speakers.shape[1])
    rows = other.rows(main.runs)

    def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.maximum(above[rows], other.floor) / np.maximum(below, main.floor)

    return replace(
        main,
        estimates=ratio(other.estimates, main.estimates),
        speakers=ratio(other.speakers, main.speakers),
        pairs=ratio(other.pairs, main.pairs),
        floor=0.0,
        ceiling=np.inf,
    )
