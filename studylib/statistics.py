"""How far an error rate would move with other test speakers: the bootstrap over speakers.

A trial list has many trials but few speakers: VoxCeleb1-O has 37,720 trials of 40 speakers. Trials
that share a speaker are not independent, so the speakers are resampled, not the trials. In a
resample speaker s occurs w_s times (multinomial, sum of w = number of speakers). A target trial of
s then counts w_s times, a non-target trial of s and t counts w_s w_t times: both of its sides are
resampled. All systems are read on the same resamples, so their differences are paired.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from studylib.errors import StudyError

CHUNKS = 64  # parts of a sorted trial list; only the one where the errors cross is read in full
BLOCK_ELEMENTS = 2**22  # numbers held at a time: 32 MB


@dataclass(frozen=True)
class TrialSpeakers:
    """Which speakers each trial depends on.

    Attributes
    ----------
    targets : (T,) bool
    pair : (T,) int
        Row of `pairs` that the trial belongs to.
    pairs : (P, 2) int
        The distinct pairs of speakers, 0 .. n_speakers - 1; both the same for target trials.
    n_speakers : int
    """

    targets: np.ndarray
    pair: np.ndarray
    pairs: np.ndarray
    n_speakers: int

    def pair_weights(self, counts: np.ndarray) -> np.ndarray:
        """Speaker counts (B, n_speakers) -> how often each pair's trials count, (P, B) float64."""
        first, second = counts.T[self.pairs[:, 0]], counts.T[self.pairs[:, 1]]
        same = (self.pairs[:, 0] == self.pairs[:, 1])[:, None]
        return np.where(same, first, first * second).astype(np.float64)


def trial_speakers(targets, first_speaker, second_speaker) -> TrialSpeakers:
    """Number the speakers and speaker pairs of a trial list.

    Parameters
    ----------
    targets : (T,) bool
    first_speaker, second_speaker : (T,) int or str
        The speaker on each side of each trial.

    Raises
    ------
    StudyError
        Lengths that differ, a target trial of two speakers or a non-target trial of one, fewer
        than 3 speakers, or only one kind of trial.
    """
    targets = np.asarray(targets, dtype=bool)
    sides = np.stack([np.asarray(first_speaker), np.asarray(second_speaker)], axis=1)
    if targets.ndim != 1 or sides.shape != (len(targets), 2):
        raise StudyError("Targets and both speakers of the trials must be lists of one length.")
    names, numbers = np.unique(sides, return_inverse=True)
    numbers = np.sort(numbers.reshape(sides.shape), axis=1)
    wrong = np.flatnonzero((numbers[:, 0] == numbers[:, 1]) != targets)
    if len(wrong):
        raise StudyError(
            f"Trial {wrong[0]} is marked {'' if targets[wrong[0]] else 'non-'}target, but its "
            f"speakers are {sides[wrong[0], 0]} and {sides[wrong[0], 1]}."
        )
    if len(names) < 3 or targets.all() or not targets.any():
        raise StudyError(
            f"A bootstrap over speakers needs target and non-target trials of at least 3 speakers; "
            f"got {int(targets.sum())} target trials among {len(targets)} of {len(names)} speakers."
        )
    codes, pair = np.unique(numbers[:, 0] * len(names) + numbers[:, 1], return_inverse=True)
    pairs = np.stack(np.divmod(codes, len(names)), axis=1)
    return TrialSpeakers(targets, pair, pairs, len(names))


def resample_speakers(trials: TrialSpeakers, n_resamples: int, seed: int) -> np.ndarray:
    """How often each speaker occurs in each resample, (n_resamples, n_speakers) int64.

    A resample without any target or any non-target trial has no error rate and is drawn again;
    with the speakers of a real list that practically never happens.
    """
    generator = np.random.default_rng(seed)
    even = np.full(trials.n_speakers, 1 / trials.n_speakers)
    same = trials.pairs[:, 0] == trials.pairs[:, 1]
    counts = np.empty((0, trials.n_speakers), dtype=np.int64)
    while len(counts) < n_resamples:
        drawn = generator.multinomial(trials.n_speakers, even, size=n_resamples - len(counts))
        present = drawn.T > 0
        first, second = present[trials.pairs[:, 0]], present[trials.pairs[:, 1]]
        usable = first[same].any(axis=0) & (first & second)[~same].any(axis=0)
        counts = np.concatenate([counts, drawn[usable]])
    return counts


@dataclass(frozen=True)
class SortedTrials:
    """A system's trials in falling order of score, cut into chunks that end where scores change.

    Attributes
    ----------
    pair : (T,) int, targets : (T,) bool
        In falling order of score.
    ends : (G,) int
        One past the last trial of each group of equal scores.
    chunk_ends : (K,) int
        Indices into `ends`: one past the last group of each chunk.
    chunk_counts : (K, P) sparse
        Trials of each speaker pair in each chunk.
    """

    pair: np.ndarray
    targets: np.ndarray
    ends: np.ndarray
    chunk_ends: np.ndarray
    chunk_counts: sparse.csr_array


def sort_trials(scores, trials: TrialSpeakers) -> SortedTrials:
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != trials.targets.shape:
        raise StudyError(
            f"There are {len(trials.targets)} trials but scores of shape {scores.shape}: every "
            f"system must be scored on the same trial list."
        )
    if not np.isfinite(scores).all():
        raise StudyError(f"{int((~np.isfinite(scores)).sum())} scores are not finite numbers.")
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])) + 1, len(scores))
    wanted = np.linspace(0, len(scores), CHUNKS + 1)[1:]
    chunk_ends = np.unique(np.searchsorted(ends, wanted) + 1)
    sizes = np.diff(ends[chunk_ends - 1], prepend=0)
    chunk = np.repeat(np.arange(len(sizes)), sizes)
    pair = trials.pair[order]
    counts = sparse.coo_array(
        (np.ones(len(pair)), (chunk, pair)), shape=(len(sizes), len(trials.pairs))
    )
    return SortedTrials(pair, trials.targets[order], ends, chunk_ends, counts.tocsr())


def resampled_eer(scores, trials: TrialSpeakers, counts: np.ndarray) -> np.ndarray:
    """The equal error rate in each resample, exactly as if its trials were listed, (B,) float64.

    Parameters
    ----------
    scores : (T,) float
    counts : (B, n_speakers) int
        From `resample_speakers`; rows of ones give the equal error rate itself.
    """
    ordered = sort_trials(scores, trials)
    size = max(1, BLOCK_ELEMENTS // len(trials.pairs))
    blocks = [
        _eer_of_weights(ordered, trials, trials.pair_weights(counts[start : start + size]))
        for start in range(0, len(counts), size)
    ]
    return np.concatenate(blocks)


def _eer_of_weights(ordered: SortedTrials, trials: TrialSpeakers, weights) -> np.ndarray:
    """Coarse curve over the chunks first, then the one chunk in which misses = false alarms."""
    hits, alarms = _coarse_curve(ordered, trials, weights)
    excess = 1 - hits / hits[-1] - alarms / alarms[-1]  # miss - false alarm, falls from 1 to -1
    crossing = np.minimum((excess >= 0).sum(axis=0), len(excess) - 1) - 1
    rates = np.empty(weights.shape[1])
    for chunk in np.unique(crossing):
        columns = np.flatnonzero(crossing == chunk)
        fine_hits, fine_alarms = _fine_curve(ordered, weights[:, columns], chunk)
        miss = 1 - (hits[chunk, columns] + fine_hits) / hits[-1, columns]
        false_alarm = (alarms[chunk, columns] + fine_alarms) / alarms[-1, columns]
        rates[columns] = _crossing(miss, false_alarm)
    return rates


def _coarse_curve(ordered, trials, weights) -> tuple[np.ndarray, np.ndarray]:
    """Accepted target and non-target weight after 0, 1, ... K chunks, each (K + 1, B)."""
    same = trials.pairs[:, 0] == trials.pairs[:, 1]
    parts = []
    for kind in (same, ~same):
        sums = ordered.chunk_counts[:, np.flatnonzero(kind)] @ weights[kind]
        parts.append(np.concatenate([np.zeros((1, weights.shape[1])), np.cumsum(sums, axis=0)]))
    return parts[0], parts[1]


def _fine_curve(ordered, weights, chunk: int) -> tuple[np.ndarray, np.ndarray]:
    """Accepted weight within one chunk, before it and after each group of scores, (g + 1, b)."""
    first_group = 0 if chunk == 0 else ordered.chunk_ends[chunk - 1]
    ends = ordered.ends[first_group : ordered.chunk_ends[chunk]]
    start = 0 if first_group == 0 else ordered.ends[first_group - 1]
    trial_weights = weights[ordered.pair[start : ends[-1]]]
    targets = ordered.targets[start : ends[-1], None]
    nothing = np.zeros((1, weights.shape[1]))
    hits = np.cumsum(np.where(targets, trial_weights, 0), axis=0)[ends - start - 1]
    alarms = np.cumsum(np.where(targets, 0, trial_weights), axis=0)[ends - start - 1]
    return np.concatenate([nothing, hits]), np.concatenate([nothing, alarms])


def _crossing(miss: np.ndarray, false_alarm: np.ndarray) -> np.ndarray:
    """Where each column's polygon has miss = false alarm; both (g + 1, b), crossing inside."""
    excess = miss - false_alarm
    columns = np.arange(excess.shape[1])
    after = np.clip((excess >= 0).sum(axis=0), 1, len(excess) - 1)
    before = after - 1
    e0, e1 = excess[before, columns], excess[after, columns]
    step = np.divide(e0, e0 - e1, out=np.zeros_like(e0), where=e0 != e1)
    a0, a1 = false_alarm[before, columns], false_alarm[after, columns]
    return a0 + np.clip(step, 0, 1) * (a1 - a0)


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; rates are fractions."""

    estimate: float
    low: float
    high: float
    level: float


def eer_interval(
    scores,
    targets,
    first_speaker,
    second_speaker,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """The equal error rate of one system with its interval over speakers."""
    trials = trial_speakers(targets, first_speaker, second_speaker)
    counts = resample_speakers(trials, n_resamples, seed)
    estimate = resampled_eer(scores, trials, np.ones((1, trials.n_speakers), dtype=np.int64))[0]
    tail = (1 - level) / 2
    low, high = np.quantile(resampled_eer(scores, trials, counts), [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high), level)
