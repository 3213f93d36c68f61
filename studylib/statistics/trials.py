"""The trials of a list by speaker, and one run's error rates for many weightings at once.

Every error rate is exactly that of the list with its trials repeated by their weights, without ever
writing such a list. A run's trials are sorted once and cut into chunks; a sparse product gives the
accepted weight at the ends of the chunks; and a chunk is evaluated score by score only where the
value of some measure can lie inside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from studylib.errors import StudyError
from studylib.statistics.error_rates import PRIORS, bits, crossings, detection_costs


@dataclass(frozen=True)
class TrialSpeakers:
    """The unit that weights each trial: one of S speakers or of P pairs of them.

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


@dataclass(frozen=True)
class SortedTrials:
    """A run's T trials in falling order of their scores, cut into K chunks that split no tie.

    Attributes
    ----------
    targets, last : (T,) bool
        Target trials; the last trial of each distinct score.
    unit : (T,) int32
        As in `TrialSpeakers`.
    ends : (K + 1,) int
        Where the chunks begin and end, from 0 to T.
    counts : (2 K, U) sparse
        Target trials of each chunk by unit; below them its nontarget trials.
    bits : (S,) and (P,) float64
        What the target trials of each speaker, and the nontarget trials of each pair, cost.
    """

    targets: np.ndarray
    last: np.ndarray
    unit: np.ndarray
    ends: np.ndarray
    counts: sparse.csr_array
    bits: list[np.ndarray]


def sort_trials(scores, trials: TrialSpeakers) -> SortedTrials:
    """Sort a run's finite scores (T,) once for all resamples."""
    scores = np.asarray(scores, dtype=np.float64)
    assert np.isfinite(scores).all()
    order = np.argsort(-scores, kind="stable")
    scores, targets, unit = scores[order], trials.targets[order], trials.unit[order]
    last = np.append(np.diff(scores) < 0, True)
    # As many chunks as make their ends take as long as the few chunks evaluated score by score.
    distinct, n_chunks = np.flatnonzero(last) + 1, int(8 * np.sqrt(len(scores)))
    wanted = np.searchsorted(distinct, np.linspace(0, len(scores), n_chunks + 1)[1:])
    ends = np.append(0, np.unique(distinct[wanted]))
    chunk = np.repeat(np.arange(len(ends) - 1), np.diff(ends)) + ~targets * (len(ends) - 1)
    shape = (2 * len(ends) - 2, trials.n_units)
    costs = np.bincount(unit, bits(scores, targets), minlength=trials.n_units)
    counts = sparse.csr_array((np.ones(len(unit)), (chunk, unit)), shape=shape)
    return SortedTrials(targets, last, unit, ends, counts, np.split(costs, [len(trials.names)]))


def read_measures(run: SortedTrials, weights: np.ndarray, measures: Sequence[str]) -> np.ndarray:
    """The measures under each column of weights (U, B): (M, B) float64."""
    per_chunk = (run.counts @ weights).reshape(2, len(run.ends) - 1, -1)
    accepted = np.cumsum(np.pad(per_chunk, ((0, 0), (1, 0), (0, 0))), axis=1)  # (2, K + 1, B)
    totals = accepted[:, -1]
    false_alarm, miss = _rates(accepted, totals)
    inside = np.zeros(len(run.ends) - 1, dtype=bool)
    if "eer" in measures:
        inside[crossings(false_alarm, miss)[1]] = True
    priors = {name: PRIORS[name] for name in measures if name in PRIORS}
    found = {}
    for name, prior in priors.items():
        found[name] = detection_costs(false_alarm, miss, prior).min(axis=0)
        # No cost inside a chunk is below that of its first false alarms and its last misses.
        least = detection_costs(false_alarm[:-1], miss[1:], prior)
        inside |= (least < found[name]).any(axis=1)
    if inside.any():  # not where Cllr alone is read
        false_alarm, miss = _rates(_inside(run, np.flatnonzero(inside), weights, accepted), totals)
    for name, prior in priors.items():
        least = detection_costs(false_alarm, miss, prior).min(axis=0)
        found[name] = np.minimum(found[name], least)
    if "eer" in measures:
        found["eer"] = crossings(false_alarm, miss)[0]
    if "cllr" in measures:
        parts = zip(run.bits, np.split(weights, [len(run.bits[0])]), totals, strict=True)
        # Not by a product of matrices, whose threads would take longer than one does.
        found["cllr"] = sum(np.einsum("u,ub->b", bits, w) / total for bits, w, total in parts) / 2
    return np.stack([found[name] for name in measures])


def _rates(accepted: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False alarms and misses where so many targets and nontargets (2, n, B) are accepted."""
    hit, false_alarm = accepted / totals[:, None]
    return false_alarm, 1 - hit


def _inside(run: SortedTrials, chunks: np.ndarray, weights, accepted) -> np.ndarray:
    """Accepted weight (2, n, B) at the start, and after each score, of the chunks (C,)."""
    # A chunk's first row is its start: it adds what was accepted since the chunk before.
    rows = [np.arange(run.ends[chunk] - 1, run.ends[chunk + 1]) for chunk in chunks]
    starts = np.cumsum([0, *map(len, rows[:-1])])
    rows = np.concatenate(rows)
    targets, points = run.targets[rows], run.last[rows]
    gains = np.zeros((2, len(rows), weights.shape[1]))
    gains[(~targets).astype(int), np.arange(len(rows))] = weights[run.unit[rows]]
    gains[:, starts] = accepted[:, chunks]
    gains[:, starts[1:]] -= accepted[:, chunks[:-1] + 1]
    points[starts] = True
    return np.cumsum(gains, axis=1)[:, points]
