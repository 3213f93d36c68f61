"""The figure of robustness: error rates with intervals, level by level."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from studylib.reports.figures.style import FEW_TICKS, look, percent_axis, run_title, whiskers


def rates_by_level(rates: pd.DataFrame, losses: Mapping[str, str | None]) -> Figure:
    """One panel a level of one factor, one row a run: the same rows everywhere.

    The best run at the first level is on top; where the order holds, rates grow downwards.

    Parameters
    ----------
    rates : DataFrame
        From `error_rates` or `list_rates`: one factor.
    losses : run -> loss, None without one
    """
    levels = rates["level"].unique()
    order = rates[rates["level"] == levels[0]].sort_values("rate", ascending=False)["run"]
    size = (1.7 + 2.5 * len(levels), 1.3 + 0.26 * len(order))
    figure, panels = plt.subplots(
        1, len(levels), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axes, level in zip(panels[0], levels, strict=True):
        table = rates[rates["level"] == level].set_index("run")
        for place, run in enumerate(order):
            row = table.loc[[run]]
            looks = look(losses[run]).errorbar
            axes.errorbar(100 * row["rate"], [place], xerr=whiskers(row), **looks)
        axes.set_title(level)
    percent_axis(axes.xaxis, FEW_TICKS)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_yticks(range(len(order)), [run_title(run, losses[run]) for run in order])
    figure.suptitle(rates["factor"].iloc[0].capitalize())
    figure.supxlabel("EER (%), logarithmic; 95 % interval over speakers", fontsize=10)
    return figure
