"""Figures of a whole study: error rates with intervals, paired differences, conclusions."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from studylib.reports.figures.runs import det_axes, det_curve
from studylib.reports.figures.style import NO_LOSS, look, percent_axis, run_title

MOST_CURVES = 8  # of a DET figure that have a name; the rest is grey
MOST_NUMBERS = 16  # runs of a matrix whose cells hold numbers
INTERVAL = "95 % interval over test speakers and seeds"


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
    titles = {run: run_title(run, loss) for run, loss in table["loss"].items()}
    figure, axes = plt.subplots(figsize=(7, 1.1 + 0.26 * len(table)))
    several = seeds[seeds["run"].duplicated(keep=False)]
    seaborn.stripplot(
        x=100 * several["eer"],
        y=several["run"].map(titles),
        order=titles.values(),
        color="black",
        size=3,
        jitter=False,
        ax=axes,
    )
    for place, row in enumerate(table.itertuples()):
        own, rate = look(row.loss), 100 * row.rate
        ends = [[rate - 100 * row.low], [100 * row.high - rate]]
        axes.errorbar(rate, place, xerr=ends, fmt=own.mark, color=own.colour, elinewidth=2)
        text = f"{rate:.2f}"
        axes.annotate(text, (1.01, place), xycoords=("axes fraction", "data"), va="center")
    percent_axis(axes.xaxis)
    axes.set_yticks(range(len(titles)), titles.values())
    axes.set_ylim(len(titles) - 0.4, -0.6)
    dots = "; dots: single seeds" if len(several) else ""
    axes.set(title="Equal error rate (%)", ylabel="")
    axes.set_xlabel(f"EER (%) on the trials {list_name!r}, logarithmic\n{INTERVAL}{dots}")
    return figure


def difference_matrix(tests: pd.DataFrame, losses: Mapping[str, str]) -> Figure:
    """EER of the row as a multiple of the column's, the better runs first: one triangle.

    Parameters
    ----------
    tests : DataFrame
        Columns first, second (the worse of the two), difference (relative: -0.1 says that the
        first's EER is 10 % lower), low, high, p_holm. A star stands where p_holm is below 0.05.
    losses : run -> loss
        In the order of the rows.
    """
    titles = [run_title(run, loss) for run, loss in losses.items()]
    place = {run: number for number, run in enumerate(losses)}
    ratios = np.full((len(place), len(place)), np.nan)
    texts = np.full(ratios.shape, "", dtype=object)
    numbers = len(place) <= MOST_NUMBERS
    for test in tests.itertuples():
        cell = place[test.second], place[test.first]
        star = "*" if test.p_holm < 0.05 else ""
        ratio, low, high = (1 / (1 + value) for value in (test.difference, test.high, test.low))
        ratios[cell] = ratio
        texts[cell] = f"{ratio:.2f}{star}\n{low:.2f}-{high:.2f}" if numbers else star
    side = 2.2 + (0.62 if numbers else 0.22) * len(place)
    figure, axes = plt.subplots(figsize=(side + 0.8, 0.85 * side))
    seaborn.heatmap(
        pd.DataFrame(ratios, index=titles, columns=titles).iloc[1:, :-1],
        annot=texts[1:, :-1],
        annot_kws={"fontsize": 6.5},
        fmt="",
        cmap="crest",
        norm=LogNorm(min(1, np.nanmin(ratios)), np.nanmax(ratios)),
        linewidths=0.5,
        cbar_kws={"label": "ratio of EERs, logarithmic", "shrink": 0.6},
        ax=axes,
    )
    bar = axes.collections[0].colorbar.ax
    bar.yaxis.set_major_locator(LogLocator(subs=(1, 1.2, 1.5, 2, 3, 5, 7)))
    bar.yaxis.set_major_formatter("{x:g}")
    bar.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(False)
    axes.tick_params(axis="x", rotation=60)
    plt.setp(axes.get_xticklabels(), ha="right", rotation_mode="anchor")
    small = "; small: 95 % interval" if numbers else ""
    axes.set_title(
        f"EER of the row as a multiple of the column's{small}\n"
        "* differs, p < 0.05 after Holm's correction for all pairs"
    )
    return figure


def det_overlay(systems: dict[str, tuple[str | None, np.ndarray]], targets: np.ndarray) -> Figure:
    """DET curves of several runs, in the order of `systems` (run -> loss, scores), best first.

    At most eight have a colour and a name; the others are grey. A circle marks the least detection
    cost where 1 of 100 trials is a target, a square where 5 are.
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    det_axes(axes)
    for number, (run, (loss, scores)) in enumerate(systems.items()):
        own = look(loss)
        if number < MOST_CURVES:
            det_curve(axes, scores, targets, run_title(run, loss), own.colour, own.line)
        else:
            det_curve(axes, scores, targets, None, "lightgrey", "-")
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        frameon=False,
        title="by EER, the lowest first" + (", others grey" * (len(systems) > MOST_CURVES)),
    )
    return figure


def margin_by_scale(table: pd.DataFrame) -> Figure:
    """EER over margin and scale, one panel a loss.

    Columns loss, margin and scale (numbers, or texts for schedules), rate, low, high (fractions).
    """
    losses = list(dict.fromkeys(table["loss"]))
    figure, panels = plt.subplots(1, len(losses), figsize=(1 + 4 * len(losses), 3.6), squeeze=False)
    low, high = 100 * table["rate"].min(), 100 * table["rate"].max()
    for axes, loss in zip(panels[0], losses, strict=True):
        own = table[table["loss"] == loss].copy()
        for column in ("margin", "scale"):
            names = sorted(own[column].unique(), key=_by_last_number)
            own[column] = pd.Categorical(own[column].astype(str), [str(name) for name in names])
        own["text"] = [
            f"{100 * row.rate:.2f}\n{100 * row.low:.2f}-{100 * row.high:.2f}"
            for row in own.itertuples()
        ]
        cells, texts = (
            own.pivot(index="margin", columns="scale", values=values) for values in ("rate", "text")
        )
        seaborn.heatmap(
            100 * cells,
            annot=texts.fillna(""),
            annot_kws={"fontsize": 7},
            fmt="",
            cmap="crest",
            vmin=low,
            vmax=high,
            linewidths=0.5,
            cbar=axes is panels[0, -1],
            cbar_kws={"label": "EER (%)"},
            ax=axes,
        )
        axes.grid(False)
        axes.set(title=look(loss).title, xlabel="scale", ylabel="margin")
    figure.suptitle("EER (%) by margin and scale; small: 95 % interval")
    return figure


def _by_last_number(value: float | str) -> tuple[float, bool]:
    """Numbers by size; a schedule, "0.1 to 0.3", after the number that it ends at."""
    return float(str(value).split()[-1]), isinstance(value, str)


FOREST_LIMITS = (-100, 200)  # per cent
VERDICT_COLOURS = {"supported": "#117733", "contradicted": "#D55E00", "undecided": "#0072B2"}


def verdict_forest(conclusions: pd.DataFrame) -> Figure:
    """One row a conclusion: its decisive effect with its interval; the side it claims is shaded.

    Columns as `verdicts.verdicts` gives them: id, claim, verdict, effect, low, high, claimed and
    side ("above" or "below" the bound `claimed`). An arrow stands where an interval goes on.
    """
    shown = conclusions.reset_index(drop=True)
    figure, axes = plt.subplots(figsize=(11, 1.3 + 0.32 * len(shown)))
    for place, row in shown.iterrows():
        line = VERDICT_COLOURS.get(row["verdict"].split(",")[0], NO_LOSS)
        axes.annotate(
            row["verdict"],
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            color=line,
        )
        if np.isnan(row["effect"]):
            continue
        effect, low, high, bound = 100 * row[["effect", "low", "high", "claimed"]].astype(float)
        end = FOREST_LIMITS[row.get("side") == "above"]
        axes.fill_betweenx(
            [place - 0.4, place + 0.4], bound, end, color="#117733", alpha=0.12, lw=0
        )
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
    axes.set(
        title="The papers' conclusions, tested here",
        xlabel="relative difference of EER that decides (%); shaded: the side claimed\n"
        "95 % interval, not corrected for the number of claims",
    )
    return figure
