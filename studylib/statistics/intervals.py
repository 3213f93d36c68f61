"""Intervals of error rates over test speakers and training seeds.

All arithmetic is on the logarithm of the error rate. There its distribution over speakers is close
to symmetric where the rate itself is skewed, intervals stay positive, and a difference is what
papers quote: a relative change. A value v has the interval v +- t sd and the p value of v / sd,
with sd^2 = sd_speakers^2 + sd_seeds^2 and Student's t. Two seeds differ on these speakers more than
they would on all speakers (interaction of seed and speaker). Resampling the speakers counts that
part already, so it is subtracted from sd_seeds. benchmarks/coverage.md holds the evidence for these
choices against percentile, basic and BCa intervals and against resampling trials or seeds.

References
----------
Owen 2007, "The pigeonhole bootstrap" (what resampling both sides of a pair does to a variance).
Satterthwaite 1946, "An approximate distribution of estimates of variance components".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import stdtr, stdtrit

from studylib.statistics.resampling import Resamples


def speaker_variance(speakers, pairs, n_speakers: int, *, taken_out: int):
    """Variances over test speakers, (...), of numbers computed on the resamples.

    The product weights w_s w_t have variance 3 where independent pairs would have 1, so the noise
    of single pairs of speakers is in the bootstrap's variance three times (Owen 2007). The factor
    n / (n - 1) is the usual one of a sample's variance.

    Parameters
    ----------
    speakers, pairs : (..., B) float
        The numbers on the resamples of the speakers, and under the perturbed pairs.
    taken_out : 0, 1 or 2
        How many of the two surplus pair noises. Two are right for a difference, whose distribution
        is symmetric. One error rate is skewed (few speakers make most errors), and leaving one
        surplus in compensates for it: benchmarks/coverage.md compares all three.
    """
    pair_noise = 4 * np.var(pairs, axis=-1, ddof=1)
    total = np.var(speakers, axis=-1, ddof=1) * n_speakers / (n_speakers - 1)
    return np.minimum(np.maximum(total - taken_out * pair_noise, pair_noise), total)


def speaker_df(n_speakers: int) -> float:
    """Degrees of freedom of `speaker_variance`: half those of n normal numbers.

    A variance of n numbers of kurtosis k scatters like one of 2 n / (k - 1) normal numbers. Few
    speakers make most errors, so the kurtosis of what a speaker adds to an error rate is nearer 5
    than 3. In simulated studies the variance had 0.2 to 0.6 of n - 1 degrees of freedom.
    """
    return (n_speakers - 1) / 2


@dataclass(frozen=True)
class Contrast:
    """A combination of log error rates with both sources of its variance.

    Attributes
    ----------
    value : float
        In log units; exp(value) - 1 is a relative difference where the weights sum to 0.
    speaker_sd, seed_sd : float
        Standard deviations of `value`. seed_sd is nan where no cell has two seeds; the interval and
        the p value then hold for these networks only.
    n_speakers : int
        Of the test list: see `speaker_df`.
    seed_df : float
        Degrees of freedom of seed_sd; 0 where seeds add nothing.
    """

    value: float
    speaker_sd: float
    seed_sd: float
    n_speakers: int
    seed_df: float

    @property
    def sd(self) -> float:
        return float(np.hypot(self.speaker_sd, np.nan_to_num(self.seed_sd)))

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom of the summed variance; at least 1.

        The formula gives less where the seeds' remaining variance and the speakers' are both near
        0: the interval would then be infinite.
        """
        if not self.seed_df:
            return speaker_df(self.n_speakers)
        of_speakers, of_seeds = self.speaker_sd**2, self.seed_sd**2
        spread = of_speakers**2 / speaker_df(self.n_speakers) + of_seeds**2 / self.seed_df
        return max((of_speakers + of_seeds) ** 2 / spread, 1.0)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Bounds in log units."""
        reach = stdtrit(self.df, (1 + level) / 2) * self.sd
        return self.value - reach, self.value + reach

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p value of the hypothesis that the true value is `null`."""
        if not self.sd:
            return float(self.value == null)
        return float(2 * stdtr(self.df, -abs(self.value - null) / self.sd))


@dataclass(frozen=True)
class Cells:
    """Settings (cells), each trained with one or more seeds, as log error rates of their means.

    Attributes
    ----------
    names : (C,) str
    estimates : (C,), speakers : (C, B), pairs : (C, B) float64
        log of the mean error rate over the cell's seeds: itself, and on the resamples.
    n_seeds : (C,) int
    seed_sds : (C,) float64
        Over each cell's seeds, of the log error rate of one run; nan where there is one seed.
    interactions : (C,) float64
        The part of seed_sds**2 due to these test speakers; nan where there is one seed.
    n_speakers : int
    floor, ceiling : float
        As in `Resamples`.
    """

    names: tuple[str, ...]
    estimates: np.ndarray
    speakers: np.ndarray
    pairs: np.ndarray
    n_seeds: np.ndarray
    seed_sds: np.ndarray
    interactions: np.ndarray
    n_speakers: int
    floor: float
    ceiling: float = 1.0

    @cached_property
    def pooled_seeds(self) -> tuple[float, float]:
        """One standard deviation over seeds for all cells, in log units, and its squares' df.

        Three seeds estimate their spread poorly, ten cells of three seeds well enough. The
        interaction with these test speakers is removed; 0 if it explains all of the spread.
        The degrees of freedom follow Satterthwaite's rule. nan and 0 where no cell has two seeds.
        """
        if max(self.n_seeds) == 1:
            return float("nan"), 0.0
        weights = self.n_seeds - 1
        on_these = np.nansum(weights * self.seed_sds**2) / weights.sum()
        of_these = np.nansum(weights * self.interactions) / weights.sum()
        variance = max(on_these - of_these, 0.0)
        df = weights.sum() * (variance / on_these) ** 2 if on_these else 0.0
        return float(np.sqrt(variance)), float(df)

    def contrast(self, weights: Mapping[str, float]) -> Contrast:
        """Sum of weight x log error rate over the named cells: {"a": 1} is cell a itself."""
        factors = np.zeros(len(self.names))
        for name, weight in weights.items():
            factors[self.names.index(name)] = weight
        seed_sd = self.pooled_seeds[0] * np.sqrt(np.sum(factors**2 / self.n_seeds))
        return self._contrast(lambda logs: factors @ logs, seed_sd)

    def difference(self, first: str, second: str) -> Contrast:
        """The log ratio of the first cell's error rate to the second's."""
        return self.contrast({first: 1.0, second: -1.0})

    def contrast_of(self, function: Callable[[np.ndarray], np.ndarray]) -> Contrast:
        """Any number of the cells, a median for instance: function of logs (C, n) gives (n,).

        Its variance over seeds is that of a thousand estimates with seed noise added.
        """
        noise = np.random.default_rng(0).normal(size=(len(self.names), 1000))
        noise *= self.pooled_seeds[0] / np.sqrt(self.n_seeds)[:, None]
        return self._contrast(function, function(self.estimates[:, None] + noise).std())

    def _contrast(self, function, seed_sd: float) -> Contrast:
        value, shifted = function(self.estimates[:, None] + [0.0, 1.0])
        # A difference does not change when all error rates are multiplied by one factor.
        taken_out = 2 if abs(shifted - value) < 1e-9 else 1
        resampled = function(self.speakers), function(self.pairs)
        variance = speaker_variance(*resampled, self.n_speakers, taken_out=taken_out)
        sds = float(np.sqrt(variance)), float(seed_sd)
        return Contrast(float(value), *sds, self.n_speakers, self.pooled_seeds[1])


def cells_of(resamples: Resamples, cells: Mapping[str, Sequence[str]]) -> Cells:
    """Group runs into cells: cell name -> its runs, one a seed."""
    members = [[resamples.runs.index(run) for run in runs] for runs in cells.values()]

    def log_means(rates: np.ndarray) -> np.ndarray:
        return _logs(np.stack([rates[runs].mean(axis=0) for runs in members]), resamples.floor)

    logs = _logs(resamples.estimates, resamples.floor)
    interactions = [_interaction(resamples, runs) if len(runs) > 1 else np.nan for runs in members]
    seed_sds = [logs[runs].std(ddof=1) if len(runs) > 1 else np.nan for runs in members]
    return Cells(
        names=tuple(cells),
        estimates=log_means(resamples.estimates),
        speakers=log_means(resamples.speakers),
        pairs=log_means(resamples.pairs),
        n_seeds=np.array([len(runs) for runs in members]),
        seed_sds=np.array(seed_sds),
        interactions=np.array(interactions),
        n_speakers=resamples.n_speakers,
        floor=resamples.floor,
        ceiling=resamples.ceiling,
    )


def _interaction(resamples: Resamples, runs: Sequence[int]) -> float:
    """The variance over test speakers, per run, that the runs of a cell do not share."""
    logs = (_logs(part[runs], resamples.floor) for part in (resamples.speakers, resamples.pairs))
    own = (part - part.mean(axis=0) for part in logs)
    return speaker_variance(*own, resamples.n_speakers, taken_out=2).sum() / (len(runs) - 1)


def _logs(rates: np.ndarray, floor: float) -> np.ndarray:
    return np.log(np.maximum(rates, floor))
