"""Figures of robustness: error rates from easy to hard, what hardness costs, kinds of trial."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from studylib.reports.figures.style import PERCENT_TICKS, colour, percent_axis

MARKS = ("o", "s", "^", "D", "v")
LEVELS = {
    "crop length": "length of the crops",
    "added noise": "signal-to-noise ratio",
    "added reverberation": "reverberation time (T60) of the added room",
}


def from_easy_to_hard(rates: pd.DataFrame, costs: pd.DataFrame, question: str) -> Figure:
    """Left: one line a run over the levels of a question. Right: growth to the hardest level.

    Parameters
    ----------
    rates : DataFrame
        Columns run, loss, question, level, eer (a fraction), as in `survival.condition_rates`.
    costs : DataFrame
        Columns run, loss, question, reference, hardest, ratio, low, high, p_holm, as in
        `survival.costs`. A star stands where p_holm is below 0.05.
    """
    rates = rates[rates["question"] == question]
    costs = costs[costs["question"] == question].sort_values("ratio", ascending=False)
    height = max(3.8, 1.4 + 0.27 * len(costs))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, height), width_ratios=(5, 4), layout="constrained"
    )
    levels = list(dict.fromkeys(rates["level"]))
    ends = {}
    for number, (run, line) in enumerate(rates.groupby("run", sort=False)):
        eers = 100 * line.set_index("level")["eer"].reindex(levels).to_numpy()
        mark = MARKS[number % len(MARKS)]
        fill = colour(line["loss"].iloc[0])
        left.plot(range(len(levels)), eers, color=fill, marker=mark, markersize=4, linewidth=1.3)
        ends[run] = (eers[-1], fill)
    left.set_xticks(range(len(levels)), levels)
    percent_scale(left.yaxis)
    left.set(xlabel=f"{LEVELS[question]}, from easy to hard", ylabel="EER (%), logarithmic")
    left.grid(axis="y", alpha=0.3)
    _names_at_ends(left, len(levels) - 1, ends)
    for row, cost in enumerate(costs.itertuples()):
        fill = colour(cost.loss)
        right.plot([cost.low, cost.high], [row, row], color=fill, linewidth=3, alpha=0.45)
        right.plot(cost.ratio, row, "o", color=fill)
    starred = costs["p_holm"] < 0.05
    names = [f"{run} *" if star else run for run, star in zip(costs["run"], starred, strict=True)]
    right.set_yticks(range(len(costs)), names, fontsize=8)
    right.axvline(1, color="lightgrey", zorder=0)
    right.grid(axis="x", alpha=0.3)
    reference, hardest = costs[["reference", "hardest"]].iloc[0]
    right.set(
        title=f"EER: {hardest} over {reference}",
        xlabel="times; 95 % interval over speakers"
        + ("\n* unlike the mean of the trained runs" if starred.any() else ""),
    )
    left.set_title(f"EER by {question}")
    return figure


def percent_scale(axis: Axis) -> None:
    """A logarithmic axis of per cents, labelled in plain numbers."""
    axis.axes.set_yscale("log")
    axis.set_major_locator(FixedLocator([*PERCENT_TICKS, 7, 15, 25, 40]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _names_at_ends(axes: plt.Axes, x: float, ends: dict[str, tuple[float, str]]) -> None:
    """Run names right of their lines' ends, in their order, spread so that none covers another."""
    order = sorted(ends, key=lambda run: ends[run][0])
    room = max(len(order), 12)  # names that fit above each other
    begin = (1 - (len(order) - 1) / room) / 2
    for place, run in enumerate(order):
        eer, fill = ends[run]
        axes.annotate(
            run,
            xy=(x, eer),
            xytext=(1.08, begin + place / room),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": fill,
                "linewidth": 0.8,
                "alpha": 0.7,
                "relpos": (0, 0.5),  # ends where the name begins
            },
        )


def trial_kinds(rates: pd.DataFrame) -> Figure:
    """One panel a kind of trial, one row a run (the same rows everywhere), best on top.

    Columns of `rates`: run, loss, level, eer, low, high.
    """
    levels = list(dict.fromkeys(rates["level"]))
    first = rates[rates["level"] == levels[0]].sort_values("eer", ascending=False)
    row_of = dict(zip(first["run"], np.arange(len(first)), strict=True))
    figure, panels = plt.subplots(
        1,
        len(levels),
        figsize=(2.2 + 2.3 * len(levels), 1.2 + 0.3 * len(first)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, level in zip(panels[0], levels, strict=True):
        for run in rates[rates["level"] == level].itertuples():
            fill, row = colour(run.loss), row_of[run.run]
            axes.plot([100 * run.low, 100 * run.high], [row, row], color=fill, lw=3, alpha=0.45)
            axes.plot(100 * run.eer, row, "o", color=fill)
        percent_axis(axes.xaxis)
        axes.set_title(level, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    panels[0, 0].set_yticks(range(len(first)), first["run"])
    figure.supxlabel("EER (%), logarithmic; 95 % interval over speakers", fontsize=10)
    return figure
