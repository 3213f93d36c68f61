"""Error rates of several systems on the same resamples of a trial list's speakers.

A trial list has many trials but few speakers: VoxCeleb1-O has 37,720 trials of 40 speakers. Trials
that share a speaker are not independent, so the speakers are resampled, both sides of a non-target
trial, and every system is read on the same resamples: differences between systems are paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from studylib.errors import StudyError
from studylib.statistics.resampling import (
    MEASURES,
    Weights,
    original_weights,
    pair_perturbations,
    sort_trials,
    speaker_resamples,
    trial_speakers,
)


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
        Under perturbed weights of the speaker pairs alone (`resampling.pair_perturbations`).
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
        """Row numbers of the named runs; StudyError names the one that is missing."""
        for run in runs:
            if run not in self.runs:
                raise StudyError(f"There are no scores of the run {run!r}.")
        return [self.runs.index(run) for run in runs]


def bootstrap(
    scores: Mapping[str, np.ndarray],
    targets,
    first_speaker,
    second_speaker,
    *,
    measure: str = "eer",
    n_resamples: int = 1000,
    seed: int = 0,
) -> Resamples:
    """Resample the speakers of one trial list for all runs jointly.

    Parameters
    ----------
    scores : run -> (T,) float
        Each run's scores of the same trials in the same order.
    targets : (T,) bool
    first_speaker, second_speaker : (T,) int or str
    measure : "eer", "min_dcf_0.01", "min_dcf_0.05" or "cllr"
    n_resamples : int
    seed : int
        The same seed and list give the same resamples, whatever the runs.

    Raises
    ------
    StudyError
        No runs, another number of scores than trials, or what `trial_speakers` refuses.
    """
    if measure not in MEASURES:
        raise StudyError(f"Unknown measure {measure!r}: expected one of {', '.join(MEASURES)}.")
    if not scores or n_resamples < 2:
        raise StudyError("A bootstrap needs the scores of a run and at least 2 resamples.")
    trials = trial_speakers(targets, first_speaker, second_speaker)
    ordered = [sort_trials(of_run, trials) for of_run in scores.values()]

    def read(blocks: Iterator[Weights]) -> np.ndarray:
        parts = [[MEASURES[measure](run, weights) for run in ordered] for weights in blocks]
        return np.concatenate(parts, axis=1)

    estimates = read(iter([original_weights(trials)]))[:, 0]
    return Resamples(
        runs=tuple(scores),
        estimates=estimates,
        speakers=read(speaker_resamples(trials, n_resamples, seed)),
        pairs=read(pair_perturbations(trials, n_resamples, seed)),
        speaker_names=tuple(map(str, np.union1d(first_speaker, second_speaker))),
        seed=seed,
        floor=0.5 * min([1 / trials.targets.sum(), *estimates[estimates > 0]]),
        ceiling=np.inf if measure == "cllr" else 1.0,
    )


def rises(main: Resamples, other: Resamples, name: str) -> Resamples:
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
        Lists of other speakers, or resampled with another seed or another number of resamples.
    """
    alike = main.speaker_names == other.speaker_names and main.seed == other.seed
    if not alike or main.speakers.shape[1] != other.speakers.shape[1]:
        raise StudyError(
            f"The list {name} cannot be compared with the first: it has other speakers, or was "
            f"resampled with another seed or number of resamples."
        )
    rows = other.rows(main.runs)

    def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.maximum(above[rows], other.floor) / np.maximum(below, main.floor)

    return Resamples(
        runs=main.runs,
        estimates=ratio(other.estimates, main.estimates),
        speakers=ratio(other.speakers, main.speakers),
        pairs=ratio(other.pairs, main.pairs),
        speaker_names=main.speaker_names,
        seed=main.seed,
        floor=0.0,
        ceiling=np.inf,
    )
