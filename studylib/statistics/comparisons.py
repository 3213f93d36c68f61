"""Tables of error rates with intervals, and paired tests between settings."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from studylib.statistics.intervals import Cells, Contrast


def error_table(cells: Cells) -> pd.DataFrame:
    """One row a cell: its error rate with an interval, and the sources of its uncertainty.

    An estimate of 0 gets 0 as its lower bound. Where no resample has any error either, the upper
    bound is that of the share of speakers with errors, none of whom are in the list.

    Returns
    -------
    DataFrame
        Index cell; columns rate, low, high (fractions; 95 %), seeds (how many), seed_sd (this
        cell's own standard deviation over seeds, on these speakers) and speaker_sd (over test
        speakers), both relative to the rate. The interval pools the seed variance of all cells.
    """
    rows = []
    for name, n_seeds, seed_sd in zip(cells.names, cells.n_seeds, cells.seed_sds, strict=True):
        contrast = cells.contrast({name: 1.0})
        rate, low, high = np.exp([contrast.value, *contrast.interval()])
        if contrast.value <= np.log(cells.floor):
            rate = low = 0.0
            if not contrast.speaker_sd:
                high = 1 - 0.05 ** (1 / cells.n_speakers)
        high = min(high, cells.ceiling)
        rows.append([rate, low, high, n_seeds, seed_sd, contrast.speaker_sd])
    index = pd.Index(cells.names, name="cell", tupleize_cols=False)
    columns = ["rate", "low", "high", "seeds", "seed_sd", "speaker_sd"]
    return pd.DataFrame(rows, index=index, columns=columns)


def paired_tests(cells: Cells, pairs: Iterable[tuple[str, str]]) -> pd.DataFrame:
    """Compare cells two by two on the same resampled speakers.

    Parameters
    ----------
    cells : Cells
    pairs : iterable of (first, second)
        The family of comparisons: choose it before looking.

    Returns
    -------
    DataFrame
        One row a pair: first, second, difference (relative: -0.1 where the first's error rate
        is 10 % lower), low, high, p, p_holm (corrected over all rows), speakers_needed.
    """
    rows = []
    for first, second in pairs:
        contrast = cells.difference(first, second)
        values = np.expm1([contrast.value, *contrast.interval()])
        rows.append([first, second, *values, contrast.p_value(), speakers_needed(contrast)])
    columns = ["first", "second", "difference", "low", "high", "p", "speakers_needed"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(6, "p_holm", holm(table["p"].to_numpy(dtype=float)))
    return table


def holm(p_values) -> np.ndarray:
    """Holm's step-down correction: compare with the same 0.05 as a single p value (Holm 1979)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)
    rising = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(rising, 1)[np.argsort(order)]


def speakers_needed(contrast: Contrast, *, bound: float = 0.0, level: float = 0.95) -> float:
    """Number of test speakers for the interval to exclude a bound, at the same value.

    The interval's speaker part shrinks with the square root of the speakers; its seed part does
    not, so the answer may be infinite: then only more seeds help.

    Parameters
    ----------
    contrast : Contrast
    bound : float
        Log units.
    """
    reach = abs(contrast.value - bound) / stdtrit(contrast.df, (1 + level) / 2)
    room = reach**2 - np.nan_to_num(contrast.seed_sd) ** 2
    if room <= 0:
        return float("inf")
    return float(np.ceil(contrast.n_speakers * contrast.speaker_sd**2 / room))
