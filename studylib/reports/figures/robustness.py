"""Figures of robustness: error rates from easy to hard, what hardness costs, kinds of trial."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studylib.reports.figures.style import look, percent_axis, run_title

LEVELS = {
    "crop length": "length of the crops",
    "added noise": "signal-to-noise ratio",
    "added reverberation": "reverberation time (T60) of the added room",
}
RATE = ["eer", "low", "high"]
MOST_LINES = 8
Losses = Mapping[str, str | None]


def from_easy_to_hard(
    rates: pd.DataFrame, growth: pd.DataFrame, losses: Losses, factor: str
) -> Figure:
    """Left: one line a run over the levels of a factor. Right: growth to the hardest level.

    The eight best runs at the hardest level are named, the others grey.

    Parameters
    ----------
    rates : DataFrame
        From `error_rates`.
    growth : DataFrame
        From `growth_table`. A star stands where p_holm is below 0.05.
    losses : run -> loss, None without one
    """
    rates, growth = (table[table["factor"] == factor] for table in (rates, growth))
    growth = growth.sort_values("ratio", ascending=False)
    size = (12, max(3.8, 1.2 + 0.27 * len(growth)))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(5, 4))
    levels = list(rates["level"].unique())
    hardest = rates[rates["level"] == levels[-1]].sort_values("eer")
    for place, run in enumerate(hardest["run"]):
        line, looks = 100 * rates.set_index("run").loc[run, RATE], look(losses[run])
        if place >= MOST_LINES:
            left.plot(range(len(levels)), line["eer"], color="lightgrey", zorder=0)
            continue
        style = {"color": looks.colour, "ls": looks.line, "marker": looks.mark, "ms": 5}
        reach = (line["eer"] - line["low"], line["high"] - line["eer"])
        shift = place - (min(len(hardest), MOST_LINES) - 1) / 2  # beside each other
        x = np.arange(len(levels)) + 0.04 * shift
        left.errorbar(x, line["eer"], reach, label=run_title(run, losses[run]), lw=1.2, **style)
    percent_axis(left.yaxis)
    left.set_xticks(range(len(levels)), levels)
    left.set(xlabel=f"{LEVELS[factor]}, from easy to hard", ylabel="EER (%), logarithmic")
    left.set_title(f"EER by {factor}, with 95 % intervals over speakers")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    _interval_rows(right, growth, "ratio", losses)
    right.axvline(1, color="black", lw=0.8, zorder=0)
    right.set(title="EER: {hardest} over {reference}".format(**growth.iloc[0]))
    note = "\n* unlike the mean of these runs" if growth["p_holm"].lt(0.05).any() else ""
    right.set(xlabel=f"times, with 95 % interval over speakers{note}")
    return figure


def trial_kinds(rates: pd.DataFrame, losses: Losses) -> Figure:
    """One panel a kind of trial, one row a run (the same rows everywhere), best on top.

    Parameters
    ----------
    rates : DataFrame
        From `trial_rates`.
    """
    kinds = rates["level"].unique()
    order = rates[rates["level"] == kinds[0]].sort_values("eer", ascending=False)["run"]
    size = (2.2 + 2.3 * len(kinds), 1.2 + 0.3 * len(order))
    figure, panels = plt.subplots(1, len(kinds), figsize=size, sharex=True, sharey=True)
    for axes, kind in zip(np.atleast_1d(panels), kinds, strict=True):
        table = rates[rates["level"] == kind].set_index("run").loc[order, RATE]
        _interval_rows(axes, (100 * table).reset_index(), "eer", losses)
        percent_axis(axes.xaxis)
        axes.set_title(kind)
    figure.supxlabel("EER (%), logarithmic; 95 % interval over speakers", fontsize=10)
    return figure


def _interval_rows(axes: plt.Axes, table: pd.DataFrame, value: str, losses: Losses) -> None:
    """One row a run: its value and its interval (columns low, high); a star by column p_holm."""
    titles = []
    for place, row in enumerate(table.to_dict("records")):
        run, looks = row["run"], look(losses[row["run"]])
        axes.plot([row["low"], row["high"]], [place, place], color=looks.colour, lw=3, alpha=0.45)
        axes.plot(row[value], place, looks.mark, color=looks.colour)
        titles.append(run_title(run, losses[run]) + " *" * (row.get("p_holm", 1) < 0.05))
    axes.set_yticks(range(len(table)), titles)
