"""How far an error rate would move with other test speakers and other training seeds.

All arithmetic is on the logarithm of the error rate. There its distribution over speakers is close
to symmetric where the rate itself is skewed, intervals stay positive, and a difference is what
papers quote: a relative change. A value v has the interval v +- t sd and the p value of v / sd,
with sd^2 = sd_speakers^2 + sd_seeds^2 and Student's t. Two seeds differ on these speakers more than
they would on all speakers: each suits some speakers better. That part resampling the speakers
counts already, so it is taken out of sd_seeds. benchmarks/coverage.md holds the evidence for these
choices against percentile, basic and BCa intervals and against resampling trials or seeds.

References
----------
Owen 2007, "The pigeonhole bootstrap" (what resampling both sides of a pair does to a variance).
Satterthwaite 1946, "An approximate distribution of estimates of variance components".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from studylib.statistics.resampling import Resamples, bootstrap


def speaker_variance(speakers, pairs, n_speakers: int, *, taken_out: int) -> float:
    """Variance over test speakers of a number read on the resamples.

    The product weights w_s w_t have variance 3 where independent pairs would have 1, so the noise
    of single pairs of speakers is in the bootstrap's variance three times (Owen 2007). The factor
    n / (n - 1) is the usual one of a sample's variance.

    Parameters
    ----------
    speakers, pairs : (B,) float
        The number on the resamples of the speakers, and under the perturbed pairs.
    taken_out : 0, 1 or 2
        How many of the two surplus pair noises. Two are right for a difference, whose distribution
        is symmetric. One error rate is skewed (few speakers make most errors), and leaving one
        surplus in makes up for it: benchmarks/coverage.md compares all three.
    """
    pair_noise = 4 * np.var(pairs, ddof=1)
    total = np.var(speakers, ddof=1) * n_speakers / (n_speakers - 1)
    return float(min(max(total - taken_out * pair_noise, pair_noise), total))


def speaker_df(n_speakers: int) -> float:
    """Degrees of freedom of `speaker_variance`: half those of n normal numbers.

    A variance of n numbers of kurtosis k scatters like one of 2 n / (k - 1) normal numbers. Few
    speakers make most errors, so the kurtosis of what a speaker adds to an error rate is nearer 5
    than 3. In simulated studies the variance scattered as if it had 0.2 to 0.6 of n - 1.
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
        the p value then hold for these very networks only.
    speaker_df, seed_df : float
        Degrees of freedom of the two; seed_df is 0 where seeds add nothing.
    """

    value: float
    speaker_sd: float
    seed_sd: float
    speaker_df: float
    seed_df: float

    @property
    def sd(self) -> float:
        return float(np.hypot(self.speaker_sd, np.nan_to_num(self.seed_sd)))

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom of the summed variance; at least 1.

        There would be less where next to nothing is left of the seeds' spread, and the speakers do
        not move the value either: any interval would then be infinite.
        """
        of_speakers, of_seeds = self.speaker_sd**2, np.nan_to_num(self.seed_sd) ** 2
        if not self.seed_df:
            return self.speaker_df
        spread = of_speakers**2 / self.speaker_df + of_seeds**2 / self.seed_df
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
        The part of seed_sds**2 that comes of these test speakers; nan where there is one seed.
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

    @property
    def has_seeds(self) -> bool:
        """Whether any cell was trained with several seeds."""
        return bool((self.n_seeds > 1).any())

    @property
    def pooled_seed_sd(self) -> float:
        """One standard deviation over seeds for all cells (in log units, so relative); nan without.

        Three seeds say little about their spread; ten cells of three seeds say enough. It is what
        would remain with a test speaker of every kind: 0 if chance may explain all of the spread.
        """
        on_these, of_these = self._pooled(self.seed_sds**2), self._pooled(self.interactions)
        return float(np.sqrt(np.maximum(on_these - of_these, 0.0)))

    @property
    def seed_df(self) -> float:
        """Degrees of freedom of `pooled_seed_sd` squared (Satterthwaite's rule); 0 without."""
        on_these = self._pooled(self.seed_sds**2)
        if not on_these > 0:
            return 0.0
        return float((self.n_seeds - 1).sum() * (self.pooled_seed_sd**2 / on_these) ** 2)

    def _pooled(self, variances: np.ndarray) -> float:
        if not self.has_seeds:
            return float("nan")
        weights = self.n_seeds - 1
        return float(np.nansum(weights * variances) / weights.sum())

    def contrast(self, weights: Mapping[str, float]) -> Contrast:
        """Sum of weight x log error rate over the named cells.

        {"a": 1} is cell a itself.
        """
        factors = np.zeros(len(self.names))
        for name, weight in weights.items():
            factors[self.names.index(name)] = weight
        seed_sd = self.pooled_seed_sd * np.sqrt(np.sum(factors**2 / self.n_seeds))
        return self._contrast(lambda logs: factors @ logs, float(seed_sd))

    def difference(self, first: str, second: str) -> Contrast:
        """The log ratio of the first cell's error rate to the second's."""
        return self.contrast({first: 1.0, second: -1.0})

    def contrast_of(self, function: Callable[[np.ndarray], np.ndarray]) -> Contrast:
        """Any number of the cells, a median for instance: function of logs (C, n) gives (n,).

        How seeds move it is found by adding their noise to the estimates, a thousand times.
        """
        noise = np.random.default_rng(0).normal(size=(len(self.names), 1000))
        noise *= self.pooled_seed_sd / np.sqrt(self.n_seeds)[:, None]
        moved = function(self.estimates[:, None] + np.nan_to_num(noise))
        return self._contrast(function, float(moved.std()) if self.has_seeds else float("nan"))

    def _contrast(self, function, seed_sd: float) -> Contrast:
        value, shifted = function(self.estimates[:, None] + [0.0, 1.0])
        difference = abs(shifted - value) < 1e-9  # unmoved when all error rates grow alike
        variance = speaker_variance(
            function(self.speakers),
            function(self.pairs),
            self.n_speakers,
            taken_out=2 if difference else 1,
        )
        speaker_sd, df = float(np.sqrt(variance)), speaker_df(self.n_speakers)
        return Contrast(float(value), speaker_sd, seed_sd, df, self.seed_df)


def cells_of(resamples: Resamples, cells: Mapping[str, Sequence[str]]) -> Cells:
    """Group runs into cells: cell name -> its runs, one a seed."""
    rows = {name: resamples.rows(runs) for name, runs in cells.items()}

    def log_means(rates: np.ndarray) -> np.ndarray:
        means = np.stack([rates[of_cell].mean(axis=0) for of_cell in rows.values()])
        return np.log(np.maximum(means, resamples.floor))

    logs = np.log(np.maximum(resamples.estimates, resamples.floor))
    return Cells(
        names=tuple(cells),
        estimates=log_means(resamples.estimates),
        speakers=log_means(resamples.speakers),
        pairs=log_means(resamples.pairs),
        n_seeds=np.array([len(of_cell) for of_cell in rows.values()]),
        seed_sds=np.array([logs[c].std(ddof=1) if len(c) > 1 else np.nan for c in rows.values()]),
        interactions=np.array([_interaction(resamples, of_cell) for of_cell in rows.values()]),
        n_speakers=resamples.n_speakers,
        floor=resamples.floor,
        ceiling=resamples.ceiling,
    )


def _interaction(resamples: Resamples, runs: np.ndarray) -> float:
    """The variance over test speakers, per run, that the runs of a cell do not share."""
    if len(runs) < 2:
        return float("nan")
    own = []
    for rates in (resamples.speakers[runs], resamples.pairs[runs]):
        logs = np.log(np.maximum(rates, resamples.floor))
        own.append(logs - logs.mean(axis=0))
    variances = [
        speaker_variance(speakers, pairs, resamples.n_speakers, taken_out=2)
        for speakers, pairs in zip(*own, strict=True)
    ]
    return sum(variances) / (len(runs) - 1)


class Interval(NamedTuple):
    """An estimate with its confidence interval, in the measure's own units (EER: a fraction)."""

    estimate: float
    low: float
    high: float


def eer_interval(
    scores, targets, first_speaker, second_speaker, *, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """The equal error rate of one run with its 95 % interval over test speakers."""
    sides = first_speaker, second_speaker
    resamples = bootstrap({"run": scores}, targets, *sides, n_resamples=n_resamples, seed=seed)
    return interval_of(cells_of(resamples["eer"], {"run": ["run"]}), "run")


def interval_of(cells: Cells, name: str, *, level: float = 0.95) -> Interval:
    """A cell's error rate, mean over its seeds, with the interval that carries both variances.

    An estimate of 0 gets 0 as its lower bound. Where no resample has any error either, the upper
    bound is the share of faulty speakers that the list's speakers could still have missed.
    """
    contrast = cells.contrast({name: 1.0})
    value, low, high = map(float, np.exp([contrast.value, *contrast.interval(level)]))
    if contrast.value > np.log(cells.floor):
        return Interval(value, low, min(high, cells.ceiling))
    if not contrast.speaker_sd:
        high = 1 - (1 - level) ** (1 / cells.n_speakers)
    return Interval(0.0, 0.0, high)
