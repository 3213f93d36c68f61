"""Which setting is better, by how much, and how sure: tables of intervals and paired tests.

Also the choice of settings that a fair comparison rests on: on development speakers only, and with
the same budget for every loss.
"""

from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from studylib.errors import StudyError
from studylib.statistics import Cells, Contrast, interval_of


def error_table(cells: Cells, *, level: float = 0.95) -> pd.DataFrame:
    """One row a cell: its error rate with an interval, and where the uncertainty comes from.

    Returns
    -------
    DataFrame
        Index cell; columns rate, low, high (fractions), seeds (how many), seed_sd (this cell's own
        standard deviation over seeds, on these speakers) and speaker_sd (over test speakers), both
        relative to the rate. The interval pools the seed variance of all cells.
    """
    rows = []
    for name, seeds, seed_sd in zip(cells.names, cells.n_seeds, cells.seed_sds, strict=True):
        interval = interval_of(cells, name, level=level)
        rows.append(
            {
                "cell": name,
                "rate": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "seeds": int(seeds),
                "seed_sd": seed_sd,
                "speaker_sd": cells.contrast({name: 1.0}).speaker_sd,
            }
        )
    return pd.DataFrame(rows).set_index("cell")


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
    pairs = list(combinations(cells.names, 2)) if pairs is None else list(pairs)
    rows = []
    for first, second in pairs:
        contrast = cells.contrast({first: 1.0, second: -1.0})
        low, high = contrast.interval(level)
        rows.append(
            {
                "first": first,
                "second": second,
                "difference": np.expm1(contrast.value),
                "low": np.expm1(low),
                "high": np.expm1(high),
                "p": contrast.p_value(),
                "speakers_needed": speakers_needed(contrast, cells.n_speakers, level=level),
            }
        )
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
    contrast: Contrast, n_speakers: int, *, distance: float | None = None, level: float = 0.95
) -> float:
    """How many test speakers would let the interval exclude the null, were the value to stay.

    The interval's speaker part shrinks with the square root of the speakers; its seed part does
    not, so the answer may be infinite: then only more seeds help.

    Parameters
    ----------
    contrast : Contrast
    n_speakers : int
        Speakers of the test list it was measured on.
    distance : float, optional
        From the value to the bound in question, log units; |value| (the null is 0) unless given.
    """
    distance = abs(contrast.value) if distance is None else distance
    reach = distance / stdtrit(contrast.df, (1 + level) / 2)
    room = reach**2 - np.nan_to_num(contrast.seed_sd) ** 2
    if distance <= 0 or room <= 0:
        return float("inf")
    return float(np.ceil(n_speakers * contrast.speaker_sd**2 / room))


def choose_settings(development: pd.DataFrame) -> pd.DataFrame:
    """Pick each loss's best setting by its mean EER on development speakers.

    The best of twelve settings is better by luck alone than the best of four, so `verdicts`
    compares losses only where as many were tried of each.

    Parameters
    ----------
    development : DataFrame
        One row a training run: loss, setting (a name), seed, crops (seen in training), trials (the
        name of the list) and eer.

    Returns
    -------
    DataFrame
        Index loss; columns setting, eer (mean over its seeds) and tried (settings in all).

    Raises
    ------
    StudyError
        A missing column, a list other than development, or settings tried unequally: each needs as
        many seeds, on as many crops.
    """
    needed = ["loss", "setting", "seed", "crops", "trials", "eer"]
    if missing := [column for column in needed if column not in development]:
        raise StudyError(f"The table of development results lacks {', '.join(missing)}.")
    lists = sorted(set(development["trials"].astype(str)))
    if len(lists) != 1 or not lists[0].startswith("dev"):
        raise StudyError(
            f"Settings are chosen on one list of development trials (named dev...), not on "
            f"{', '.join(lists) or 'none'}."
        )
    if development.duplicated(["loss", "setting", "seed"]).any():
        raise StudyError("A run occurs twice in the table of development results.")
    runs = development.groupby(["loss", "setting"], sort=True)
    settings = runs.agg(eer=("eer", "mean"), seeds=("seed", "nunique"), crops=("crops", "sum"))
    if len(settings[["seeds", "crops"]].drop_duplicates()) > 1:
        told = "; ".join(
            f"{row.Index[1]} {row.seeds} runs, {row.crops:,.0f} crops"
            for row in settings.itertuples()
        )
        raise StudyError(f"The tuning budgets differ, so no setting is chosen: {told}.")
    settings = settings.reset_index().sort_values("eer", kind="stable")
    best = settings.groupby("loss")[["setting", "eer"]].first()
    return best.assign(tried=settings["loss"].value_counts())
