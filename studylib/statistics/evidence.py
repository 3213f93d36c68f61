"""The evidence for a claim about losses: comparisons of log error rates, each with a bound.

A function of this module looks for the cells that it needs, and yields the comparisons that can be
made with what exists and, as text, what is missing. `conclusions.py` decides.
"Better" means a difference below 0; "competitive" and "no gain" allow a relative tolerance that is
stated beforehand; "sensitive" means a standard deviation over settings above that tolerance.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product

import numpy as np
import pandas as pd

from studylib.statistics.intervals import Cells, Contrast

# Columns that do not define a setting.
NOT_SETTINGS = ("cell", "seed", "crops", "chosen", "tried", "rates")
EACH = "as many learning rates tried with each"
MOST_WIDENED = 4.0  # of a spread that noise alone may explain; its sd would be infinite


@dataclass(frozen=True)
class Comparison:
    """The claim says that `contrast` lies below `bound`, or "above" it, in log units."""

    what: str
    contrast: Contrast
    bound: float = 0.0
    side: str = "below"

    def certainty(self) -> float:
        """How many standard deviations the value lies on the claimed side of the bound."""
        distance = (self.contrast.value - self.bound) * (1 if self.side == "above" else -1)
        return distance / max(self.contrast.sd, 1e-12)

    def facts(self) -> dict[str, float | str]:
        """Relative effect, its 95 % interval (low, high) and claimed bound; p, and the side."""
        numbers = np.expm1([self.contrast.value, *self.contrast.interval(), self.bound]).tolist()
        facts = dict(zip(("effect", "low", "high", "claimed"), numbers, strict=True))
        return facts | {"p": self.contrast.p_value(self.bound), "side": self.side}

    def sentence(self) -> str:
        value, low, high, bound = (100 * number for number in list(self.facts().values())[:4])
        interval = f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"
        return f"{self.what}: {interval}, claimed {self.side} {bound:+.0f} %"


@dataclass(frozen=True)
class Study:
    """All cells of a study on its main trial list, and on the harder lists for paper A's claim.

    Attributes
    ----------
    settings : DataFrame
        One row a cell (index): loss, trunk, chosen, tried, rates (see `conclusions.verdicts`) and
        all else that defines a setting.
    cells : Cells
        Named by the index of `settings`.
    harder : list name -> Cells
        The same cells: their error rates on another list, over those on the main list.
    tolerance : float
        Log units.
    trunk : str
        The trunk on which losses are compared.
    """

    settings: pd.DataFrame
    cells: Cells
    harder: Mapping[str, Cells]
    tolerance: float
    trunk: str

    def alike(self, values: Mapping[str, str]) -> pd.DataFrame:
        """The rows of `settings` with these values."""
        return self.settings[(self.settings[list(values)] == pd.Series(values)).all(axis=1)]

    def stand_in(self, values: Mapping[str, str]) -> str | None:
        """The only cell with these values, or the one chosen on development speakers."""
        rows = self.alike(values)
        rows = rows[rows["chosen"]] if len(rows) > 1 else rows
        return rows.index[0] if len(rows) == 1 else None

    def stand_ins(self, losses: Iterable[str]) -> tuple[dict[str, str], list[str]]:
        """The cell of each loss; and what is missing: a cell, or as many settings tried of each."""
        found = {loss: self.stand_in({"loss": loss, "trunk": self.trunk}) for loss in losses}
        names = {loss: name for loss, name in found.items() if name}
        missing = [f"one chosen setting of {loss}" for loss in found if loss not in names]
        tried = {loss: self.settings.loc[name, "tried"] for loss, name in names.items()}
        if len(set(tried.values())) > 1:
            each = ", ".join(f"{loss} {number}" for loss, number in tried.items())
            missing.append(f"as many settings tried of each loss ({each})")
        return names, missing

    def varying(self, loss: str, *columns: str) -> pd.DataFrame:
        """The largest set of a loss's cells that differ in nothing but `columns` and, each being
        the one chosen among several, the learning rate."""
        rows = self.alike({"loss": loss, "trunk": self.trunk}).dropna(subset=list(columns))
        rows = rows[rows["rates"] > 0]
        rest = [c for c in rows.columns if c not in (*NOT_SETTINGS, *columns)]
        groups = [group for _, group in rows.groupby(rest, dropna=False, sort=False)]
        return max(groups, key=len, default=rows)

    def by_value(self, loss: str, column: str) -> dict[float, str]:
        """Value -> the loss's cell, all else equal; a value that two cells have is left out.

        Nothing where more learning rates were tried with one value than with another.
        """
        cells = self.varying(loss, column).drop_duplicates(column, keep=False)
        equal = cells["rates"].nunique() == 1
        return dict(zip(cells[column], cells.index, strict=True)) if equal else {}


Found = Iterator[Comparison | str]  # comparisons that can be made, and what is missing


def better(study: Study, losses: Sequence[str], than: Sequence[str]) -> Found:
    """Each of `losses` has a lower error rate than each of `than`, of which as many were tried."""
    names, missing = study.stand_ins((*losses, *than))
    yield from missing
    for loss, other in product(losses, than):
        pair = [names[each] for each in (loss, other) if each in names]
        if len(pair) == 2 and study.settings.loc[pair, "tried"].nunique() == 1:
            yield Comparison(f"{loss} against {other}", study.cells.difference(*pair))


def not_worse_than_most(study: Study, loss: str, than: Sequence[str]) -> Found:
    """The loss is worse than the median setting of the others by the tolerance at most."""
    names, missing = study.stand_ins([loss])
    grids = {other: list(study.varying(other, "margin", "scale").index) for other in than}
    few = [other for other, cells in grids.items() if len(cells) < 3]
    missing += [f"at least 3 settings of margin and scale of {other}" for other in few]
    yield from missing
    if not missing:
        row, *rows = map(study.cells.names.index, [names[loss], *chain(*grids.values())])
        contrast = study.cells.contrast_of(lambda logs: logs[row] - np.median(logs[rows], axis=0))
        what = f"{loss} against the median of {len(rows)} settings of {' and '.join(than)}"
        yield Comparison(what, contrast, study.tolerance)


def sensitive(study: Study, losses: Sequence[str]) -> Found:
    """The standard deviation over settings, noise removed, is above the tolerance."""
    for loss in losses:
        rows = list(map(study.cells.names.index, study.varying(loss, "margin", "scale").index))
        if len(rows) < 3 or max(study.cells.n_seeds) == 1:
            yield f"at least 3 settings of margin and scale of {loss}, with seeds"
        else:
            what = f"spread of {loss} over {len(rows)} settings"
            yield Comparison(what, spread(study.cells, rows), study.tolerance, "above")


def best(study: Study, loss: str, column: str, value: float) -> Found:
    """With this value the loss has a lower error rate than with any other value tried."""
    cells = study.by_value(loss, column)
    best, others = cells.pop(value, None), sorted(cells)
    if not best or not others:
        yield f"{loss} with {column} {value:g} and other values, {EACH}"
        return
    for other in others:
        contrast = study.cells.difference(best, cells[other])
        yield Comparison(f"{loss} with {column} {value:g} against {other:g}", contrast)


def gain(study: Study, column: str, helps: Sequence[str], not_helps: Sequence[str]) -> Found:
    """Doubling lowers the error rate of all `helps`, and of those `not_helps` that were run with
    several values, at least one, it lowers it by less than the tolerance."""
    cells = {loss: study.by_value(loss, column) for loss in (*helps, *not_helps)}
    varied = {loss: by_value for loss, by_value in cells.items() if len(by_value) > 1}
    for loss, by_value in varied.items():
        doublings = np.log2(list(by_value)) - np.mean(np.log2(list(by_value)))
        slope = doublings / (doublings**2).sum()
        contrast = study.cells.contrast(dict(zip(by_value.values(), slope, strict=True)))
        claimed = (-study.tolerance, "above") if loss in not_helps else (0.0, "below")
        yield Comparison(f"{loss}, each doubling of {column}", contrast, *claimed)
    needed = [loss for loss in helps if loss not in varied]
    needed += [] if set(varied) & set(not_helps) else [" or ".join(not_helps)]
    yield from (f"{loss} with at least 2 values of {column}, {EACH}" for loss in needed)


def degrades_less(study: Study, loss: str, than: Sequence[str]) -> Found:
    """From the main list to a harder one the loss's error rate grows less than the others' do."""
    names, missing = study.stand_ins((loss, *than))
    if not study.harder:
        missing.append("a harder trial list of the same speakers")
    yield from missing
    for name, cells in {} if missing else study.harder.items():
        weights = {names[loss]: 1.0} | {names[other]: -1 / len(than) for other in than}
        what = f"growth of {loss} on {name} against the mean growth of {', '.join(than)}"
        yield Comparison(what, cells.contrast(weights))


def systems_compete(study: Study, first: Mapping[str, str], second: Mapping[str, str]) -> Found:
    """One whole system is worse than another by the tolerance at most."""
    names = [study.stand_in(system) for system in (first, second)]
    for name, system in zip(names, (first, second), strict=True):
        if name is None:
            yield "one setting with " + ", ".join(f"{k} {v}" for k, v in system.items())
    if None not in names:
        what, contrast = " against ".join(names), study.cells.difference(*names)
        yield Comparison(what, contrast, study.tolerance)


def spread(cells: Cells, rows: Sequence[int]) -> Contrast:
    """Standard deviation over cells of the log error rate, with the part due to noise removed.

    The noise of speakers and seeds makes cells differ even where their settings do not matter. On
    average a resample adds this noise to the squared spread a second time. Removing it multiplies
    the standard deviation by the ratio of the two spreads (the delta method).
    """
    contrast = cells.contrast_of(lambda logs: logs[rows].std(axis=0, ddof=1))
    of_resamples = cells.speakers[rows].var(axis=0, ddof=1).mean()
    of_seeds = cells.pooled_seeds[0] ** 2 * np.mean(1 / cells.n_seeds[rows])
    value = float(np.sqrt(max(2 * contrast.value**2 - of_resamples - of_seeds, 0.0)))
    wider = min(contrast.value / value, MOST_WIDENED) if value else MOST_WIDENED
    sds = {"speaker_sd": contrast.speaker_sd * wider, "seed_sd": contrast.seed_sd * wider}
    return replace(contrast, value=value, **sds)
