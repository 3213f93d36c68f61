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
        From `condition_rates`.
    growth : DataFrame
        From `growth_table`. A star stands where p_holm is below 0.05.
    losses : run -> loss, None without one
    """
    rates = rates[rates["factor"] == factor]
    growth = growth[growth["factor"] == factor].sort_values("ratio", ascending=False)
    size = (12, max(3.8, 1.2 + 0.27 * len(growth)))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=(5, 4))
    levels = list(rates["level"].unique())
    by_run = rates.set_index("run")
    for place, run in enumerate(by_run[by_run["level"] == levels[-1]].sort_values("eer").index):
        line, looks = 100 * by_run.loc[run, ["eer", "low", "high"]], look(losses[run])
        if place < MOST_LINES:
            style = {"color": looks.colour, "ls": looks.line, "marker": looks.mark, "ms": 5}
            reach = (line["eer"] - line["low"], line["high"] - line["eer"])
            x = np.arange(len(levels)) + 0.04 * (place - MOST_LINES / 2)  # beside each other
            left.errorbar(x, line["eer"], reach, label=run_title(run, losses[run]), lw=1.2, **style)
        else:
            left.plot(range(len(levels)), line["eer"], color="lightgrey", zorder=0)
    left.set_xticks(range(len(levels)), levels)
    percent_axis(left.yaxis)
    left.set(xlabel=f"{LEVELS[factor]}, from easy to hard", ylabel="EER (%), logarithmic")
    left.set_title(f"EER by {factor}, with 95 % intervals over speakers")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    star = growth["p_holm"].lt(0.05).map({True: " *", False: ""})
    _interval_rows(right, growth, "ratio", losses, star=star)
    right.axvline(1, color="black", lw=0.8, zorder=0)
    reference, hardest = growth[["reference", "hardest"]].iloc[0]
    right.set(title=f"EER at {hardest} over EER at {reference}")
    right.set(
        xlabel="times, with 95 % interval over speakers\n* unlike the mean of the trained runs"
    )
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
    figure, panels = plt.subplots(
        1, len(kinds), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axes, kind in zip(panels[0], kinds, strict=True):
        table = rates[rates["level"] == kind].set_index("run").loc[order].reset_index()
        table[["eer", "low", "high"]] *= 100
        _interval_rows(axes, table, "eer", losses)
        percent_axis(axes.xaxis)
        axes.set_title(kind)
    figure.supxlabel("EER (%), logarithmic; 95 % interval over speakers", fontsize=10)
    return figure


def _interval_rows(
    axes: plt.Axes, table: pd.DataFrame, value: str, losses: Losses, star=""
) -> None:
    """One row a run: its value and its interval (columns low, high)."""
    for row, (run, middle, low, high) in enumerate(
        table[["run", value, "low", "high"]].itertuples(index=False)
    ):
        looks = look(losses[run])
        axes.plot([low, high], [row, row], color=looks.colour, lw=3, alpha=0.45)
        axes.plot(middle, row, looks.mark, color=looks.colour)
    titles = pd.Series([run_title(run, losses[run]) for run in table["run"]], table.index)
    axes.set_yticks(range(len(table)), titles + star)
