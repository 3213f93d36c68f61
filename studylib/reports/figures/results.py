"""Figures of a whole study: error rates with intervals, paired differences, conclusions."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from studylib.reports.figures import style
from studylib.reports.figures.runs import det_axes, det_curve
from studylib.reports.figures.style import look, per_cent, run_title

MOST_CURVES = 8  # of a DET figure that have a name; the rest is grey
MOST_NUMBERS = 16  # runs of a matrix whose cells hold numbers


def eer_with_intervals(table: pd.DataFrame, seeds: pd.DataFrame, *, list_name: str) -> Figure:
    """One row a run, the best on top: mean over seeds with its interval, each seed as a dot.

    Parameters
    ----------
    table : DataFrame
        Index run; columns loss, rate, low, high (fractions).
    seeds : DataFrame
        Columns run, eer: one row a run and seed.
    list_name : str
        The trial list.
    """
    table = table.sort_values("rate")
    place = {run: number for number, run in enumerate(table.index)}
    figure, axes = plt.subplots(figsize=(7, 1.1 + 0.26 * len(table)))
    for run, row in table.iterrows():
        at = 100 * row["rate"], place[run]
        axes.errorbar(*at, xerr=style.whiskers(table.loc[[run]]), **look(row["loss"]).errorbar)
        beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": "small"}
        axes.annotate(per_cent(row["rate"]), (1.01, place[run]), **beside)
    several = seeds[seeds["run"].duplicated(keep=False)]
    heights = several["run"].map(place) + 0.3
    seaborn.scatterplot(
        x=100 * several["eer"], y=heights, color="black", s=8, legend=False, ax=axes
    )
    titles = [run_title(run, loss) for run, loss in table["loss"].items()]
    style.percent_axis(axes.xaxis)
    axes.set_yticks(range(len(titles)), titles)
    axes.set(ylim=(len(titles) - 0.4, -0.6), ylabel="", title="Equal error rate (%)")
    dots = "; dots: single seeds" if len(several) else ""
    axes.set_xlabel(f"EER (%) on the trials {list_name!r}, logarithmic\n{style.INTERVAL}{dots}")
    return figure


def difference_matrix(tests: pd.DataFrame, losses: Mapping[str, str]) -> Figure | None:
    """EER of the row as a multiple of the column's, the better runs first: one triangle.

    None where there is one run.

    Parameters
    ----------
    tests : DataFrame
        Columns first, second (the worse of the two), difference (relative: -0.1 says that the
        first's EER is 10 % lower), low, high, p_holm. A star stands where p_holm is below 0.05.
    losses : run -> loss
        In the order of the rows.
    """
    if tests.empty:
        return None
    titles = {run: run_title(run, loss) for run, loss in losses.items()}
    runs = list(titles)
    numbers = len(runs) <= MOST_NUMBERS
    cells = 1 / (1 + tests[["difference", "high", "low"]])
    texts = np.where(tests["p_holm"] < 0.05, "*", "").astype(object)
    if numbers:
        rows = zip(cells.to_numpy(), texts, strict=True)
        texts = [f"{ratio:.2f}{star}\n{low:.2f}-{high:.2f}" for (ratio, low, high), star in rows]
    cells = tests[["first", "second"]].assign(ratio=cells["difference"], text=texts)
    ratios, texts = (
        cells.pivot(index="second", columns="first", values=key).loc[runs[1:], runs[:-1]]
        for key in ("ratio", "text")
    )
    side = 2.2 + (0.62 if numbers else 0.22) * len(runs)
    figure, axes = plt.subplots(figsize=(side + 0.8, 0.85 * side))
    scale = LogNorm(min(1, ratios.min(axis=None)), ratios.max(axis=None))
    ratios = ratios.rename(index=titles, columns=titles)
    _heatmap(axes, ratios, texts.fillna(""), "ratio of EERs, logarithmic", scale)
    bar = axes.collections[0].colorbar.ax.yaxis
    bar.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 7)))
    bar.set_major_formatter("{x:g}")
    bar.set_minor_formatter(NullFormatter())
    plt.setp(axes.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    below = ", below it the 95 % interval" if numbers else ""
    axes.set_title(
        f"EER of the row as a multiple of the column's{below}\n"
        "* differs, p < 0.05 after Holm's correction for all pairs"
    )
    return figure


def _heatmap(axes: plt.Axes, values, texts, label: str | None, scale: Normalize) -> None:
    """Cells with texts in them; a colour bar where there is a label for it."""
    look_of_cells = {"cmap": "crest", "norm": scale, "linewidths": 0.5, "cbar": label is not None}
    small = {"fmt": "", "annot_kws": {"fontsize": 6.5}, "cbar_kws": {"label": label}}
    seaborn.heatmap(values, annot=texts, ax=axes, **look_of_cells, **small)
    axes.grid(False)
    axes.set(xlabel="", ylabel="")


def det_overlay(systems: dict[str, tuple[str | None, np.ndarray]], targets: np.ndarray) -> Figure:
    """DET curves of several runs, in the order of `systems` (run -> loss, scores), best first.

    At most eight trained runs have a name; the others are grey. Where a loss occurs twice, colours
    are of runs, not of losses. A circle marks the least detection cost where 1 of 100 trials is a
    target, a square where 5 are.
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    det_axes(axes)
    named = [run for run, (loss, _) in systems.items() if loss is not None][:MOST_CURVES]
    distinct = len({systems[run][0] for run in named}) == len(named)
    for run, (loss, scores) in systems.items():
        if run in named:
            title = run_title(run, loss)
            own = look(loss) if distinct else style.nth_look(named.index(run), title)
            det_curve(axes, scores, targets, title, own.colour, own.line)
        else:
            det_curve(axes, scores, targets, None, "darkgrey")
    others = "\n(others grey)" if len(systems) > len(named) else ""
    axes.legend(**style.LEGEND, title=f"by EER, the lowest first{others}")
    axes.set_title("Detection error trade-off\nleast cost at 1 % (circle), 5 % (square) targets")
    return figure


def margin_by_scale(table: pd.DataFrame) -> Figure:
    """EER over margin and scale, one panel a loss.

    Columns loss, margin and scale (numbers, or texts for schedules), rate, low, high (fractions).
    """
    losses = list(dict.fromkeys(table["loss"]))
    figure, panels = plt.subplots(1, len(losses), figsize=(2 + 4 * len(losses), 3.6), squeeze=False)
    scale = Normalize(100 * table["rate"].min(), 100 * table["rate"].max())
    for axes, loss in zip(panels[0], losses, strict=True):
        own = table[table["loss"] == loss]
        own = own.assign(margin=own["margin"].map(_number), scale=own["scale"].map(_number))
        names = {key: sorted(own[key].unique(), key=_by_last_number) for key in ("margin", "scale")}
        intervals = own["low"].map(per_cent) + "-" + own["high"].map(per_cent)
        own = own.assign(text=own["rate"].map(per_cent) + "\n" + intervals, rate=100 * own["rate"])
        values, texts = (
            own.pivot(index="margin", columns="scale", values=key).loc[*names.values()]
            for key in ("rate", "text")
        )
        _heatmap(axes, values, texts.fillna(""), "EER (%)" if loss == losses[-1] else None, scale)
        axes.set(title=look(loss).title, xlabel="scale", ylabel="margin")
    figure.suptitle("EER (%) by margin and scale, below it the 95 % interval")
    return figure


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _by_last_number(text: str) -> tuple[float, int]:
    """Numbers by size; a schedule, "0.1 to 0.3", after the number that it ends at."""
    return float(text.split()[-1]), len(text)


FOREST_LIMITS = (-100, 200)  # per cent
VERDICT_COLOURS = {"supported": "#117733", "contradicted": "#D55E00", "undecided": "#0072B2"}


def verdict_forest(conclusions: pd.DataFrame) -> Figure:
    """One row a conclusion: its decisive effect with its interval; the side it claims is shaded.

    Columns as `statistics.verdicts` gives them: id, claim, verdict, effect, low, high, claimed and
    side ("above" or "below" the bound `claimed`). An arrow stands where an interval goes on.
    """
    shown = conclusions.reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(11, 1.3 + 0.32 * len(shown)))
    for place, row in shown.iterrows():
        line = VERDICT_COLOURS.get(row["verdict"].split(",")[0], style.NO_LOSS)
        beside = {"xycoords": ("axes fraction", "data"), "va": "center", "color": line}
        axes.annotate(row["verdict"], (1.01, place), **beside)
        if np.isnan(row["effect"]):
            continue
        effect, low, high, bound = 100 * row[["effect", "low", "high", "claimed"]].astype(float)
        end = FOREST_LIMITS[row["side"] == "above"]
        axes.barh(place, end - bound, left=bound, color="#117733", alpha=0.2, linewidth=0)
        ends = np.clip([low, high], *FOREST_LIMITS)
        axes.plot(ends, [place, place], color=line, linewidth=2)
        if high > FOREST_LIMITS[1]:
            axes.plot(FOREST_LIMITS[1], place, ">", color=line, clip_on=False)
        axes.plot(np.clip(effect, *FOREST_LIMITS), place, "o", color=line)
    axes.set_yticks(range(len(shown)), [f"{row.claim}  {row.id}" for row in shown.itertuples()])
    axes.set_xlim(*FOREST_LIMITS)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.axvline(0, color="grey", linewidth=1)
    axes.grid(axis="y", visible=False)
    axes.set_title("The papers' conclusions, tested here")
    axes.set_xlabel(
        "relative difference of EER that decides (%); shaded: the side claimed\n"
        "95 % interval, not corrected for the number of claims"
    )
    return figure
