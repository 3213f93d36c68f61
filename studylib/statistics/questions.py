"""The questions behind the papers' conclusions: which cells, which contrast, which bound.

A question looks for the cells it needs, and gives the tests that can be made with what exists and
the names of what is missing. It decides nothing; `studylib.statistics.verdicts` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from studylib.statistics.intervals import Cells, Contrast

# Columns that do not tell settings apart.
NOT_SETTINGS = ("cell", "seed", "crops", "chosen", "tried")
MOST_WIDENED = 4.0  # of a spread that noise alone may explain; its sd would be infinite


@dataclass(frozen=True)
class Test:
    """One comparison: the claim says that `contrast` lies below `bound` (or above it)."""

    what: str
    contrast: Contrast
    bound: float
    above: bool = False

    def p_value(self) -> float:
        return self.contrast.p_value(self.bound)

    def holds(self) -> bool:
        low, high = self.contrast.interval()
        return low > self.bound if self.above else high < self.bound

    def certainty(self) -> float:
        """How many standard deviations the value lies on the claimed side of the bound."""
        distance = (self.contrast.value - self.bound) * (1 if self.above else -1)
        return (
            distance / self.contrast.sd if self.contrast.sd else float(np.sign(distance) * np.inf)
        )

    def on_wrong_side(self) -> bool:
        return (self.contrast.value < self.bound) == self.above

    def sentence(self) -> str:
        value, low, high = (
            100 * np.expm1(v) for v in (self.contrast.value, *self.contrast.interval())
        )
        side = "above" if self.above else "below"
        return (
            f"{self.what}: {value:+.1f} % [{low:+.1f}, {high:+.1f}], "
            f"claimed {side} {100 * np.expm1(self.bound):+.0f} %"
        )


@dataclass(frozen=True)
class Study:
    """All cells of a study on its main trial list, and on the other lists for paper A's claim.

    Attributes
    ----------
    settings : DataFrame
        One row a cell (index): loss, crops, chosen, tried (settings that it was chosen from) and
        whatever else tells settings apart.
    cells : Cells
        Named by the index of `settings`.
    rises : list name -> Cells
        The same cells: their error rates on another list, over those on the main list.
    margin : float
        Log units.
    trunk : str or None
        The trunk on which losses are compared.
    """

    settings: pd.DataFrame
    cells: Cells
    rises: Mapping[str, Cells]
    margin: float
    trunk: str | None

    def of_loss(self, loss: str) -> pd.DataFrame:
        """The cells of a loss on the trunk that losses are compared on."""
        rows = self.settings[self.settings["loss"] == loss]
        return rows if self.trunk is None else rows[rows["trunk"] == self.trunk]

    def chosen(self, loss: str) -> str | None:
        """The cell that stands for a loss: its only one, or the one chosen on development data."""
        rows = self.of_loss(loss)
        if len(rows) > 1:
            rows = rows[rows["chosen"]]
        return rows.index[0] if len(rows) == 1 else None

    def stand_ins(self, losses: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
        """The cell of each loss; and what is missing: a cell, or as many settings tried of each."""
        names = {loss: self.chosen(loss) for loss in losses}
        missing = [f"one chosen setting of {loss}" for loss, name in names.items() if name is None]
        tried = {loss: self.tried(name) for loss, name in names.items() if name is not None}
        if len(set(tried.values())) > 1:
            told = ", ".join(f"{loss} {number}" for loss, number in tried.items())
            missing.append(f"as many settings tried of each loss ({told})")
        return names, missing

    def tried(self, name: str) -> int:
        """From how many settings a cell was chosen."""
        return int(self.settings.loc[name, "tried"])

    def varying(self, loss: str, columns: Sequence[str]) -> pd.DataFrame:
        """The largest set of a loss's cells that differ in nothing but `columns`."""
        rows = self.of_loss(loss)
        if not set(columns) <= set(rows.columns):
            return rows.iloc[:0]
        rows = rows[rows[list(columns)].notna().all(axis=1)]
        rest = [c for c in rows.columns if c not in (*NOT_SETTINGS, *columns)]
        groups = [group for _, group in rows.groupby(rest, dropna=False, sort=False)]
        return max(groups, key=len, default=rows)


Answer = tuple[list[Test], list[str]]  # the tests that can be made, and what is missing


def better(study: Study, *, losses: Sequence[str], than: Sequence[str]) -> Answer:
    """Each of `losses` has a lower error rate than each of `than`, of which as many were tried."""
    names, missing = study.stand_ins((*losses, *than))
    tests = [
        Test(
            f"{loss} against {other}",
            study.cells.contrast({names[loss]: 1.0, names[other]: -1.0}),
            bound=0.0,
        )
        for loss in losses
        for other in than
        if names[loss] and names[other] and study.tried(names[loss]) == study.tried(names[other])
    ]
    return tests, missing


def not_worse_than_most(study: Study, *, loss: str, than: Sequence[str]) -> Answer:
    """The loss is at most the margin worse than the median setting of the others."""
    own = study.chosen(loss)
    others = [study.varying(other, ("margin", "scale")).index for other in than]
    missing = [] if own else [f"one chosen setting of {loss}"]
    missing += [
        f"at least 3 settings of margin and scale of {other}"
        for other, settings in zip(than, others, strict=True)
        if len(settings) < 3
    ]
    if missing:
        return [], missing
    rows = _rows(study.cells, np.concatenate(others))
    row = study.cells.names.index(own)
    contrast = study.cells.contrast_of(lambda logs: logs[row] - np.median(logs[rows], axis=0))
    what = f"{loss} against the median of {len(rows)} settings of {' and '.join(than)}"
    return [Test(what, contrast, bound=study.margin)], []


def sensitive(study: Study, *, losses: Sequence[str], to: Sequence[str]) -> Answer:
    """The error rate's standard deviation over the settings, noise removed, is above the margin."""
    tests, missing = [], []
    for loss in losses:
        names = study.varying(loss, to).index
        if len(names) < 3 or not study.cells.has_seeds:
            missing.append(f"at least 3 settings of {' and '.join(to)} of {loss}, with seeds")
            continue
        what = f"spread of {loss} over {len(names)} settings"
        contrast = _spread(study.cells, _rows(study.cells, names))
        tests.append(Test(what, contrast, bound=study.margin, above=True))
    return tests, missing


def best_value(study: Study, *, losses: Sequence[str], of: str, value: float) -> Answer:
    """With `of` at `value` each loss has a lower error rate than with any other value tried."""
    tests, missing = [], []
    for loss in losses:
        cells = study.varying(loss, (of,))
        if ambiguous := _ambiguous(cells, loss, of):
            missing.append(ambiguous)
            continue
        values = dict(zip(cells.get(of, []), cells.index, strict=True))
        if value not in values or len(values) < 2:
            missing.append(f"{loss} with {of} {value:g} and other values")
            continue
        for other in sorted(set(values) - {value}):
            contrast = study.cells.contrast({values[value]: 1.0, values[other]: -1.0})
            tests.append(Test(f"{loss} with {of} {value:g} against {other:g}", contrast, bound=0.0))
    return tests, missing


def gain(study: Study, *, of: str, helps: Sequence[str], not_helps: Sequence[str]) -> Answer:
    """Doubling `of` lowers the error rate of all `helps`, and of those `not_helps` that were run
    with several values, at least one, it lowers it by less than the margin."""
    cells = {loss: study.varying(loss, (of,)) for loss in (*helps, *not_helps)}
    varied = [loss for loss in cells if len(cells[loss]) and cells[loss][of].nunique() > 1]
    missing = [f"{loss} with at least 2 values of {of}" for loss in helps if loss not in varied]
    ambiguous = {loss: _ambiguous(cells[loss], loss, of) for loss in varied}
    missing += filter(None, ambiguous.values())
    varied = [loss for loss in varied if not ambiguous[loss]]
    if not set(varied) & set(not_helps):
        missing.append(f"{' or '.join(not_helps)} with at least 2 values of {of}")
    tests = []
    for loss in varied:
        doublings = np.log2(cells[loss][of].to_numpy(dtype=float))
        doublings -= doublings.mean()
        slope = dict(zip(cells[loss].index, doublings / (doublings**2).sum(), strict=True))
        contrast = study.cells.contrast(slope)
        what = f"{loss}, each doubling of {of}"
        if loss in helps:
            tests.append(Test(what, contrast, bound=0.0))
        else:
            tests.append(Test(what, contrast, bound=-study.margin, above=True))
    return tests, missing


def degrades_less(study: Study, *, loss: str, than: Sequence[str]) -> Answer:
    """From the main list to a harder one the loss's error rate rises less than the others' do."""
    names, missing = study.stand_ins((loss, *than))
    if not study.rises:
        missing.append("a harder trial list of the same speakers")
    if missing:
        return [], missing
    weights = {names[loss]: 1.0} | {names[other]: -1 / len(than) for other in than}
    return [
        Test(
            f"rise of {loss} on {name} against the mean rise of {', '.join(than)}",
            rises.contrast(weights),
            bound=0.0,
        )
        for name, rises in study.rises.items()
    ], []


def systems_compete(study: Study, *, first: Mapping[str, str], second: Mapping[str, str]) -> Answer:
    """One whole system is at most the margin worse than another."""
    names, missing = [], []
    for system in (first, second):
        rows = study.settings
        for column, value in system.items():
            rows = rows[rows[column] == value] if column in rows else rows.iloc[:0]
        if len(rows) > 1:
            rows = rows[rows["chosen"]]
        names.append(rows.index[0] if len(rows) == 1 else None)
        if names[-1] is None:
            missing.append("one setting with " + ", ".join(f"{k} {v}" for k, v in system.items()))
    if missing:
        return [], missing
    contrast = study.cells.contrast({names[0]: 1.0, names[1]: -1.0})
    return [Test(f"{names[0]} against {names[1]}", contrast, bound=study.margin)], []


def _ambiguous(cells: pd.DataFrame, loss: str, of: str) -> str | None:
    """What is missing where several cells have one value of what is varied."""
    twice = cells.index[cells[of].duplicated(keep=False)] if len(cells) else []
    return f"one setting of {loss} for each {of}, not {', '.join(twice)}" if len(twice) else None


def _rows(cells: Cells, names) -> list[int]:
    return [cells.names.index(name) for name in names]


def _spread(cells: Cells, rows: Sequence[int]) -> Contrast:
    """Standard deviation over cells of the log error rate, without what noise adds to it.

    The noise of speakers and seeds makes cells differ even where their settings do not matter. In
    the mean over resamples it adds to the squared spread once more what it has added already. A
    root moves the more, the nearer it is to 0: by the ratio of the two spreads (the delta method).
    """
    contrast = cells.contrast_of(lambda logs: logs[rows].std(axis=0, ddof=1))
    of_resamples = cells.speakers[rows].var(axis=0, ddof=1).mean()
    of_seeds = cells.pooled_seed_sd**2 * np.mean(1 / cells.n_seeds[rows])
    square = 2 * contrast.value**2 - of_resamples - of_seeds
    value = float(np.sqrt(max(square, 0.0)))
    wider = min(contrast.value / value, MOST_WIDENED) if value else MOST_WIDENED
    sds = {"speaker_sd": contrast.speaker_sd * wider, "seed_sd": contrast.seed_sd * wider}
    return replace(contrast, value=value, **sds)
