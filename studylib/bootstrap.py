"""Error rates of several systems on the same resamples of a trial list's speakers.

A trial list has many trials but few speakers: VoxCeleb1-O has 37,720 trials of 40 speakers. Trials
that share a speaker are not independent, so the speakers are resampled, both sides of a non-target
trial, and every system is read on the same resamples: differences between systems are paired.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from studylib.errors import StudyError
from studylib.resampling import (
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
    n_speakers : int
    floor : float
        Half a target trial: what a measure of 0 counts as when its logarithm is taken.
    """

    runs: tuple[str, ...]
    estimates: np.ndarray
    speakers: np.ndarray
    pairs: np.ndarray
    n_speakers: int
    floor: float

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

    return Resamples(
        runs=tuple(scores),
        estimates=read(iter([original_weights(trials)]))[:, 0],
        speakers=read(speaker_resamples(trials, n_resamples, seed)),
        pairs=read(pair_perturbations(trials, n_resamples, seed)),
        n_speakers=trials.n_speakers,
        floor=0.5 / trials.targets.sum(),
    )
