"""Error rates of many resamples of the speakers at once.

In a resample speaker s occurs w_s times. A target trial of s then counts w_s times, a non-target
trial of s and t counts w_s w_t times: both of its sides are resampled. Every error rate below is
exactly that of the list with its trials so repeated, without ever writing such a list: a system's
trials are sorted once, each distinct score keeps the number of its trials by speaker (targets) and
by pair of speakers (non-targets), and a resample's accepted weights are products of these sparse
counts with the resample's weights. The curve is first read at some 64 scores, and then score by
score only where the answer can lie.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse

from studylib.errors import StudyError

CHUNKS = 64  # parts of a sorted trial list; few of them are read score by score
BLOCK = 2**21  # weights held at a time: 16 MB


@dataclass(frozen=True)
class TrialSpeakers:
    """Which speakers each trial depends on; speakers are numbered 0 .. n_speakers - 1.

    Attributes
    ----------
    targets : (T,) bool
    unit : (T,) int
        For a target trial its speaker; for a non-target trial its row of `pairs`.
    pairs : (P, 2) int
        The distinct unordered pairs of speakers that non-target trials compare.
    n_speakers : int
    """

    targets: np.ndarray
    unit: np.ndarray
    pairs: np.ndarray
    n_speakers: int


@dataclass(frozen=True)
class Weights:
    """How often the trials of each speaker (S, B) and of each pair of speakers (P, B) count."""

    targets: np.ndarray
    nontargets: np.ndarray

    def __getitem__(self, columns) -> "Weights":
        # take() keeps the row order in memory that the sparse products read fastest.
        return Weights(
            *(np.take(part, columns, axis=1) for part in (self.targets, self.nontargets))
        )


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
        Lengths that differ, a target trial of two speakers or a non-target trial of one, fewer
        than 3 speakers, or only one kind of trial.
    """
    targets = np.asarray(targets, dtype=bool)
    sides = [np.asarray(first_speaker), np.asarray(second_speaker)]
    if targets.ndim != 1 or sides[0].shape != targets.shape or sides[1].shape != targets.shape:
        raise StudyError("Targets and both speakers of the trials must be lists of one length.")
    names, numbers = np.unique(np.stack(sides, axis=1), return_inverse=True)
    low, high = np.sort(numbers.reshape(-1, 2), axis=1).T
    wrong = np.flatnonzero((low == high) != targets)
    if len(wrong):
        kind, trial = "target" if targets[wrong[0]] else "non-target", wrong[0]
        raise StudyError(
            f"Trial {trial} is marked {kind}, but its speakers are {sides[0][trial]} and "
            f"{sides[1][trial]}."
        )
    if len(names) < 3 or targets.all() or not targets.any():
        raise StudyError(
            f"A bootstrap over speakers needs target and non-target trials of at least 3 speakers; "
            f"got {int(targets.sum())} target trials among {len(targets)} of {len(names)} speakers."
        )
    codes, rows = np.unique((low * len(names) + high)[~targets], return_inverse=True)
    unit = low.copy()
    unit[~targets] = rows
    return TrialSpeakers(targets, unit, np.stack(np.divmod(codes, len(names)), 1), len(names))


def original_weights(trials: TrialSpeakers) -> Weights:
    """Every trial once: the column that gives the estimate itself."""
    return Weights(np.ones((trials.n_speakers, 1)), np.ones((len(trials.pairs), 1)))


def speaker_resamples(trials: TrialSpeakers, n_resamples: int, seed: int) -> Iterator[Weights]:
    """Blocks of weights of `n_resamples` draws of as many speakers, with replacement.

    A draw without any target or any non-target trial has no error rate and is made again; with the
    speakers of a real list that practically never happens.
    """
    generator = np.random.default_rng(seed)
    even = np.full(trials.n_speakers, 1 / trials.n_speakers)
    with_targets = np.unique(trials.unit[trials.targets])
    for size in _block_sizes(trials, n_resamples):
        kept = []
        while (missing := size - sum(part.targets.shape[1] for part in kept)) > 0:
            counts = generator.multinomial(trials.n_speakers, even, size=missing).T.astype(float)
            drawn = Weights(counts, counts[trials.pairs[:, 0]] * counts[trials.pairs[:, 1]])
            usable = counts[with_targets].any(axis=0) & drawn.nontargets.any(axis=0)
            kept.append(drawn if usable.all() else drawn[np.flatnonzero(usable)])
        yield Weights(
            np.concatenate([part.targets for part in kept], axis=1),
            np.concatenate([part.nontargets for part in kept], axis=1),
        )


def pair_perturbations(trials: TrialSpeakers, n_resamples: int, seed: int) -> Iterator[Weights]:
    """Blocks of weights 1/2 or 3/2, drawn for each pair of speakers alone; targets count once.

    Four times the variance of an error rate under these weights is the noise of the pairs: what
    would remain of its variance if speakers had no effect beyond the single pair. They are drawn
    for all pairs of the speakers, whichever the list compares, so that a pair has the same weights
    in every list of these speakers.
    """
    generator = np.random.default_rng([seed, 1])
    n, (low, high) = trials.n_speakers, trials.pairs.T
    places = low * (2 * n - low - 1) // 2 + high - low - 1  # among all pairs, in order
    for size in _block_sizes(trials, n_resamples):
        halves = generator.integers(0, 2, size=(n * (n - 1) // 2, size), dtype=np.int8)[places]
        yield Weights(np.ones((n, size)), halves + 0.5)


def _block_sizes(trials: TrialSpeakers, n_resamples: int) -> list[int]:
    """The same for all lists of the same speakers."""
    n = trials.n_speakers
    most = max(16, BLOCK // max(n * (n - 1) // 2, n))
    return [min(most, n_resamples - start) for start in range(0, n_resamples, most)]


@dataclass(frozen=True)
class SortedTrials:
    """A system's trials counted by distinct score, in falling order, and cut into K chunks.

    Attributes
    ----------
    scores : (G,) float64
        Distinct scores, falling.
    targets : (G, S) sparse, nontargets : (G, P) sparse
        Trials of each score by speaker and by pair.
    ends : (K,) int
        One past the last score of each chunk.
    chunk_targets : (K, S) sparse, chunk_nontargets : (K, P) sparse
    """

    scores: np.ndarray
    targets: sparse.csr_array
    nontargets: sparse.csr_array
    ends: np.ndarray
    chunk_targets: sparse.csr_array
    chunk_nontargets: sparse.csr_array

    def coarse(self, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
        """Accepted weight of targets and non-targets after 0, 1, ... K chunks, (K + 1, B)."""
        return (
            _accumulated(self.chunk_targets @ weights.targets),
            _accumulated(self.chunk_nontargets @ weights.nontargets),
        )

    def fine(self, chunk: int, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
        """What one chunk adds to both after 0, 1, ... g of its scores, (g + 1, B)."""
        part = slice(self.ends[chunk - 1] if chunk else 0, self.ends[chunk])
        return (
            _accumulated(self.targets[part] @ weights.targets),
            _accumulated(self.nontargets[part] @ weights.nontargets),
        )


def sort_trials(scores, trials: TrialSpeakers) -> SortedTrials:
    """Sort a system's scores (T,) once for all resamples."""
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != trials.targets.shape:
        raise StudyError(
            f"There are {len(trials.targets)} trials but scores of shape {scores.shape}: every "
            f"system must be scored on the same trial list."
        )
    if not np.isfinite(scores).all():
        raise StudyError(f"{int((~np.isfinite(scores)).sum())} scores are not finite numbers.")
    falling, group, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    wanted = np.linspace(0, len(scores), CHUNKS + 1)[1:]
    ends = np.unique(np.searchsorted(np.cumsum(sizes), wanted) + 1)
    chunk = np.searchsorted(ends, group, side="right")
    widths = (trials.n_speakers, len(trials.pairs))
    kinds = (trials.targets, ~trials.targets)
    by_score = [
        _counts(group[kind], trials.unit[kind], (len(falling), width))
        for kind, width in zip(kinds, widths, strict=True)
    ]
    by_chunk = [
        _counts(chunk[kind], trials.unit[kind], (len(ends), width))
        for kind, width in zip(kinds, widths, strict=True)
    ]
    return SortedTrials(-falling, *by_score, ends, *by_chunk)


def _counts(rows, columns, shape) -> sparse.csr_array:
    return sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr()


def _accumulated(sums: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, sums.shape[1])), np.cumsum(sums, axis=0)])


def equal_error_rates(ordered: SortedTrials, weights: Weights) -> np.ndarray:
    """The equal error rate under each column of weights, interpolated linearly, (B,) float64."""
    hits, alarms = ordered.coarse(weights)
    excess = 1 - hits / hits[-1] - alarms / alarms[-1]  # miss - false alarm, falls from 1 to -1
    crossing = np.clip((excess >= 0).sum(axis=0), 1, len(excess) - 1) - 1
    rates = np.empty(hits.shape[1])
    for chunk in np.unique(crossing):
        at = np.flatnonzero(crossing == chunk)
        more_hits, more_alarms = ordered.fine(chunk, weights[at])
        miss = 1 - (hits[chunk, at] + more_hits) / hits[-1, at]
        rates[at] = _crossing(miss, (alarms[chunk, at] + more_alarms) / alarms[-1, at])
    return rates


def _crossing(miss: np.ndarray, false_alarm: np.ndarray) -> np.ndarray:
    """Where the polygon of each column, (g + 1, b), has miss = false alarm; it lies inside."""
    excess = miss - false_alarm
    after = np.clip((excess >= 0).sum(axis=0), 1, len(excess) - 1)
    columns = np.arange(excess.shape[1])
    before = excess[after - 1, columns], false_alarm[after - 1, columns]
    fall = before[0] - excess[after, columns]
    step = np.divide(before[0], fall, out=np.zeros_like(fall), where=fall > 0)
    return before[1] + np.clip(step, 0, 1) * (false_alarm[after, columns] - before[1])


def minimum_costs(ordered: SortedTrials, weights: Weights, *, target_prior: float) -> np.ndarray:
    """The normalised minimum detection cost at unit costs under each column of weights, (B,)."""
    hits, alarms = ordered.coarse(weights)
    of_miss, of_alarm = np.array([target_prior, 1 - target_prior]) / min(
        target_prior, 1 - target_prior
    )
    per_hit, per_alarm = of_miss / hits[-1], of_alarm / alarms[-1]
    misses, alarms = of_miss - per_hit * hits, per_alarm * alarms
    best = (misses + alarms).min(axis=0)
    for chunk in range(len(misses) - 1):
        # Nowhere inside a chunk is the cost below its last misses plus its first false alarms.
        at = np.flatnonzero(misses[chunk + 1] + alarms[chunk] < best)
        if len(at):
            more_hits, more_alarms = ordered.fine(chunk, weights[at])
            change = per_alarm[at] * more_alarms - per_hit[at] * more_hits
            best[at] = np.minimum(best[at], misses[chunk, at] + alarms[chunk, at] + change.min(0))
    return best


def log_likelihood_ratio_costs(ordered: SortedTrials, weights: Weights) -> np.ndarray:
    """Cllr in bits under each column of weights, (B,); scores are log-likelihood ratios."""
    of_targets = np.logaddexp(0, -ordered.scores) @ ordered.targets
    of_nontargets = np.logaddexp(0, ordered.scores) @ ordered.nontargets
    n_targets, n_nontargets = ordered.targets.sum(axis=0), ordered.nontargets.sum(axis=0)
    return (
        (of_targets @ weights.targets) / (n_targets @ weights.targets)
        + (of_nontargets @ weights.nontargets) / (n_nontargets @ weights.nontargets)
    ) / (2 * np.log(2))


MEASURES: dict[str, Callable[[SortedTrials, Weights], np.ndarray]] = {
    "eer": equal_error_rates,
    "min_dcf_0.01": partial(minimum_costs, target_prior=0.01),
    "min_dcf_0.05": partial(minimum_costs, target_prior=0.05),
    "cllr": log_likelihood_ratio_costs,
}
