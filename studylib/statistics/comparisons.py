"""Which setting is better, by how much, and how sure: tables of intervals and paired tests."""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from studylib.statistics.intervals import Cells, Contrast, interval_of


def error_table(cells: Cells) -> pd.DataFrame:
    """One row a cell: its error rate with an interval, and where the uncertainty comes from.

    Returns
    -------
    DataFrame
        Index cell; columns rate, low, high (fractions; 95 %), seeds (how many), seed_sd (this
        cell's own standard deviation over seeds, on these speakers) and speaker_sd (over test
        speakers), both relative to the rate. The interval pools the seed variance of all cells.
    """
    rows = [interval_of(cells, name) for name in cells.names]
    table = pd.DataFrame(rows, index=pd.Index(cells.names, name="cell", tupleize_cols=False))
    return table.rename(columns={"estimate": "rate"}).assign(
        seeds=cells.n_seeds,
        seed_sd=cells.seed_sds,
        speaker_sd=[cells.contrast({name: 1.0}).speaker_sd for name in cells.names],
    )


def paired_tests(
    cells: Cells, pairs: Iterable[tuple[str, str]] | None = None, *, level: float = 0.95
) -> pd.DataFrame:
    """Compare cells two by two on the same resampled speakers.

    Parameters
    ----------
    cells : Cells
    pairs : iterable of (first, second), optional
        The family of comparisons; all pairs unless given. Choose it before looking.

    Returns
    -------
    DataFrame
        One row a pair: first, second, difference (relative: -0.1 says that the first's error rate
        is 10 % lower), low, high, p, p_holm (corrected over all rows), speakers_needed.
    """
    rows = []
    for first, second in combinations(cells.names, 2) if pairs is None else pairs:
        contrast = cells.difference(first, second)
        values = np.expm1([contrast.value, *contrast.interval(level)])
        needed = speakers_needed(contrast, cells.n_speakers, level=level)
        rows.append([first, second, *values, contrast.p_value(), needed])
    columns = ["first", "second", "difference", "low", "high", "p", "speakers_needed"]
    table = pd.DataFrame(rows, columns=columns)
    table.insert(6, "p_holm", holm(table["p"].to_numpy(dtype=float)))
    return table


def holm(p_values) -> np.ndarray:
    """Holm's step-down correction: compare with the same 0.05 as a single p value (Holm 1979)."""
    p_values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(np.maximum.accumulate(p_values[order] * factors), 1)
    return corrected


def speakers_needed(
    contrast: Contrast, n_speakers: int, *, bound: float = 0.0, level: float = 0.95
) -> float:
    """How many test speakers would let the interval exclude a bound, were the value to stay.

    The interval's speaker part shrinks with the square root of the speakers; its seed part does
    not, so the answer may be infinite: then only more seeds help.

    Parameters
    ----------
    contrast : Contrast
    n_speakers : int
        Speakers of the test list it was measured on.
    bound : float
        Log units.
    """
    distance = abs(contrast.value - bound)
    reach = distance / stdtrit(contrast.df, (1 + level) / 2)
    room = reach**2 - np.nan_to_num(contrast.seed_sd) ** 2
    if room <= 0:
        return float("inf")
    return float(np.ceil(n_speakers * contrast.speaker_sd**2 / room))
