"""Figures of size: the error rate against batch, utterances, speakers and multiply-adds."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studylib.reports.figures.style import LEGEND, look, nth_look, rate_axis, run_title, whiskers

# Each comparison: its title, its axis.
PANELS = {
    "equal_crops": ("At equal crops seen", "batch (crops)"),
    "equal_steps": ("At equal steps", "batch (crops)"),
    "training_speakers": ("At equal crops seen", "training speakers"),
    "utterances": ("In batches of equal size", "utterances of each speaker"),
}


def eer_by_size(rates: pd.DataFrame, *, list_name: str) -> Figure | None:
    """EER against a size, one panel a comparison, one line a loss. None without rows.

    Parameters
    ----------
    rates : DataFrame
        Columns comparison, loss, size, rate, low, high (fractions).
    list_name : str
        The trial list.
    """
    if rates.empty:
        return None
    parts = list(rates.sort_values("size").groupby("comparison", sort=False))
    shape = {"figsize": (2 + 4 * len(parts), 4), "sharey": True, "squeeze": False}
    figure, panels = plt.subplots(1, len(parts), **shape)
    entries = {}
    for axes, (comparison, part) in zip(panels[0], parts, strict=True):
        for place, (loss, rows) in enumerate(part.groupby("loss", sort=False)):
            apart = 1.02**place  # so that intervals do not hide each other
            reach = whiskers(rows)
            axes.errorbar(apart * rows["size"], 100 * rows["rate"], reach, **look(loss).errorbar)
        title, axis = PANELS[comparison]
        axes.set(title=title, xlabel=f"{axis}, logarithmic", xscale="log")
        axes.set_xticks(part["size"].unique(), part["size"].unique())
        axes.xaxis.set_minor_locator(NullLocator())
        handles, labels = axes.get_legend_handles_labels()
        entries |= zip(labels, handles, strict=True)
    rate_axis(panels[0, 0].yaxis, list_name)
    axes.legend(entries.values(), entries.keys(), **LEGEND)
    return figure


def eer_by_multiply_adds(table: pd.DataFrame, *, list_name: str) -> Figure:
    """One mark a run with its interval.

    Parameters
    ----------
    table : DataFrame
        Columns run, loss, rate, low, high (fractions), parameters, multiply_adds (of a 2-s input).
    list_name : str
        The trial list.
    """
    figure, axes = plt.subplots(figsize=(8, 4.2))
    table = table.sort_values("multiply_adds", ignore_index=True)
    for place, row in table.iterrows():
        title = f"{run_title(row['run'], row['loss'])}: {row['parameters'] / 1e6:.1f} M"
        at = row["multiply_adds"] / 1e6, 100 * row["rate"], whiskers(table.loc[[place]])
        axes.errorbar(*at, **nth_look(place, title).errorbar | {"linestyle": ""})
    axes.set(xscale="log", title="Error rate and cost of the trunks")
    axes.set_xlabel("multiply-adds of a 2-s input (millions), logarithmic")
    rate_axis(axes.yaxis, list_name)
    axes.legend(**LEGEND, title="by cost, with parameters")
    return figure
