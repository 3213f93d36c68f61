"""The evidence for a claim about losses: comparisons of log error rates, each held to a bound.

A function of this module looks for the cells that it needs, and yields the comparisons that can be
made with what exists and, as text, what is missing. It decides nothing; `conclusions.py` does.
"Better" means a difference below 0; "competitive" and "no gain" allow a relative tolerance that is
stated beforehand; "sensitive" means a standard deviation over settings above that tolerance.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from studylib.statistics.intervals import Cells, Contrast

NOT_SETTINGS = ("cell", "seed", "crops", "chosen", "tried")  # columns that part no settings
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

    def relative(self) -> list[float]:
        """The effect, its 95 % interval (low, high) and the bound, as relative differences."""
        return np.expm1([self.contrast.value, *self.contrast.interval(), self.bound]).tolist()

    def sentence(self) -> str:
        value, low, high, bound = (100 * number for number in self.relative())
        interval = f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"
        return f"{self.what}: {interval}, claimed {self.side} {bound:+.0f} %"


@dataclass(frozen=True)
class Study:
    """All cells of a study on its main trial list, and on the harder lists for paper A's claim.

    Attributes
    ----------
    settings : DataFrame
        One row a cell (index): loss, trunk, chosen, tried and whatever else parts settings.
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
        """The largest set of a loss's cells that differ in nothing but `columns`."""
        rows = self.alike({"loss": loss, "trunk": self.trunk}).dropna(subset=list(columns))
        rest = [c for c in rows.columns if c not in (*NOT_SETTINGS, *columns)]
        groups = [group for _, group in rows.groupby(rest, dropna=False, sort=False)]
        return max(groups, key=len, default=rows)

    def by_value(self, loss: str, column: str) -> tuple[dict[float, str], list[str]]:
        """Value -> the loss's cell, others alike; and what is missing where two have one value."""
        cells = self.varying(loss, column)
        twice = cells.index[cells[column].duplicated(keep=False)]
        if len(twice):
            return {}, [f"one setting of {loss} for each {column}, not {', '.join(twice)}"]
        return dict(zip(cells[column], cells.index, strict=True)), []


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
    (own, missing), others = study.stand_ins([loss]), []
    for other in than:
        others += (names := list(study.varying(other, "margin", "scale").index))
        if len(names) < 3:
            missing.append(f"at least 3 settings of margin and scale of {other}")
    yield from missing
    if not missing:
        row, *rows = map(study.cells.names.index, [own[loss], *others])
        contrast = study.cells.contrast_of(lambda logs: logs[row] - np.median(logs[rows], axis=0))
        what = f"{loss} against the median of {len(rows)} settings of {' and '.join(than)}"
        yield Comparison(what, contrast, study.tolerance)


def sensitive(study: Study, losses: Sequence[str], to: Sequence[str]) -> Found:
    """The standard deviation over settings, noise removed, is above the tolerance."""
    for loss in losses:
        rows = list(map(study.cells.names.index, study.varying(loss, *to).index))
        if len(rows) < 3 or not study.cells.has_seeds:
            yield f"at least 3 settings of {' and '.join(to)} of {loss}, with seeds"
        else:
            what = f"spread of {loss} over {len(rows)} settings"
            yield Comparison(what, spread(study.cells, rows), study.tolerance, "above")


def best_value(study: Study, loss: str, column: str, value: float) -> Found:
    """With this value the loss has a lower error rate than with any other value tried."""
    cells, missing = study.by_value(loss, column)
    if not missing and (value not in cells or len(cells) < 2):
        missing = [f"{loss} with {column} {value:g} and other values"]
    yield from missing
    for other in [] if missing else sorted(set(cells) - {value}):
        contrast = study.cells.difference(cells[value], cells[other])
        yield Comparison(f"{loss} with {column} {value:g} against {other:g}", contrast)


def gain(study: Study, column: str, helps: Sequence[str], not_helps: Sequence[str]) -> Found:
    """Doubling lowers the error rate of all `helps`, and of those `not_helps` that were run with
    several values, at least one, it lowers it by less than the tolerance."""
    varied = []
    for loss in (*helps, *not_helps):
        cells, missing = study.by_value(loss, column)
        yield from missing
        if len(cells) > 1:
            varied.append(loss)
            doublings = np.log2(list(cells)) - np.mean(np.log2(list(cells)))
            slope = doublings / (doublings**2).sum()
            contrast = study.cells.contrast(dict(zip(cells.values(), slope, strict=True)))
            claimed = (-study.tolerance, "above") if loss in not_helps else (0.0, "below")
            yield Comparison(f"{loss}, each doubling of {column}", contrast, *claimed)
        elif loss in helps and not missing:
            yield f"{loss} with at least 2 values of {column}"
    if not set(varied) & set(not_helps):
        yield f"{' or '.join(not_helps)} with at least 2 values of {column}"


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
    """Standard deviation over cells of the log error rate, without what noise adds to it.

    The noise of speakers and seeds makes cells differ even where their settings do not matter. In
    the mean over resamples it adds to the squared spread once more what it has added already. A
    root moves the more, the nearer it is to 0: by the ratio of the two spreads (the delta method).
    """
    contrast = cells.contrast_of(lambda logs: logs[rows].std(axis=0, ddof=1))
    of_resamples = cells.speakers[rows].var(axis=0, ddof=1).mean()
    of_seeds = cells.pooled_seed_sd**2 * np.mean(1 / cells.n_seeds[rows])
    value = float(np.sqrt(max(2 * contrast.value**2 - of_resamples - of_seeds, 0.0)))
    wider = min(contrast.value / value, MOST_WIDENED) if value else MOST_WIDENED
    sds = {"speaker_sd": contrast.speaker_sd * wider, "seed_sd": contrast.seed_sd * wider}
    return replace(contrast, value=value, **sds)
