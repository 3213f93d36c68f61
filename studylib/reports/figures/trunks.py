"""What a better trunk costs: error rates against multiply-adds."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from studylib.reports.figures.results import PERCENT_TICKS
from studylib.reports.figures.style import colour

AREA = 40.0  # points squared for a million parameters


def eer_by_multiply_adds(table: pd.DataFrame, *, list_name: str) -> Figure:
    """One point a run, its area the number of parameters, its colour the loss, with its interval.

    Parameters
    ----------
    table : DataFrame
        Index run; columns loss, rate, low, high (fractions), parameters, multiply_adds (of a 2-s
        input) and receptive_field (s).
    list_name : str
        The trials the rates are of.
    """
    height = max(4.2, 0.3 * len(table) + 1.2)
    figure, axes = plt.subplots(figsize=(9.5, height), layout="constrained")
    costs, rates = table["multiply_adds"].to_numpy() / 1e6, 100 * table["rate"].to_numpy()
    fills = [colour(loss) for loss in table["loss"]]
    ends = 100 * table[["low", "high"]].to_numpy().T
    axes.vlines(costs, *ends, colors=fills, linewidth=2.5, alpha=0.45)
    areas = AREA * table["parameters"] / 1e6
    axes.scatter(costs, rates, s=areas, c=fills, edgecolor="black", linewidth=0.5, zorder=3)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="multiply-adds of a 2-s input (millions), logarithmic",
        ylabel="EER (%), logarithmic, with 95 % interval",
        title=f"Error rate on the trials {list_name!r} and cost of the trunks\n"
        "beside the names: parameters (the marks' area) and receptive field",
    )
    axes.margins(0.12)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_locator(FixedLocator([*PERCENT_TICKS, 7, 15]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
    sizes = table[["parameters", "receptive_field"]].itertuples()
    names = [f"{run}  {n / 1e6:.1f} M, {seconds:.2f} s" for run, n, seconds in sizes]
    name_in_margin(axes, costs, rates, names, fills)
    return figure


def name_in_margin(
    axes: plt.Axes, x: np.ndarray, y: np.ndarray, names: list[str], fills: list[str]
) -> None:
    """Names in a column right of the axes, in the order of the points, each with a line to its own.

    Beside their points, the names of runs that are alike would cover each other.
    """
    axes.autoscale_view()
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = to_axes.transform(np.column_stack([x, y]))[:, 1]
    order = np.argsort(heights, kind="stable")
    room = 1 / max(len(order), 14)
    steps = room * np.arange(len(order))
    # As near to its point as its neighbours allow: the mean of pushing up and of pushing down.
    wanted = heights[order] - steps
    upwards = np.maximum.accumulate(wanted)
    downwards = np.minimum.accumulate(wanted[::-1])[::-1]
    places = np.clip((upwards + downwards) / 2, 0, 1 - steps[-1]) + steps
    for row, place in zip(order, places, strict=True):
        axes.annotate(
            names[row],
            xy=(x[row], y[row]),
            xytext=(1.05, place),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": fills[row],
                "linewidth": 0.7,
                "alpha": 0.7,
                "relpos": (0, 0.5),  # ends where the name begins
            },
        )
