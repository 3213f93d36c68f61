"""Figures of size: the error rate against batch size, utterances a speaker, and speakers."""

from itertools import chain

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studylib.reports.figures.style import INTERVAL, LEGEND, look, percent_axis, whiskers

# Each comparison: its title, its axis, and what changes with the size.
PANELS = {
    "equal_crops": ("At equal crops seen", "batch (crops)", "steps"),
    "equal_steps": ("At equal steps", "batch (crops)", "crops"),
    "training_speakers": ("At equal crops seen", "training speakers", None),
    "utterances": ("In batches of equal size", "utterances of each speaker", None),
}
APART = 0.015  # share of the axis between two losses at one size, so that intervals do not hide


def eer_by_size(rates: pd.DataFrame, *, list_name: str) -> Figure | None:
    """EER against a size, one panel a comparison, one line a loss. None without rows.

    Parameters
    ----------
    rates : DataFrame
        Columns comparison, loss, size, rate, low, high (fractions); for batches steps and crops.
    list_name : str
        The trial list.
    """
    if rates.empty:
        return None
    comparisons = list(dict.fromkeys(rates["comparison"]))
    shape = {"figsize": (2 + 4 * len(comparisons), 4), "sharey": True, "squeeze": False}
    figure, panels = plt.subplots(1, len(comparisons), **shape)
    for axes, comparison in zip(panels[0], comparisons, strict=True):
        title, axis, beside = PANELS[comparison]
        rows = rates[rates["comparison"] == comparison].sort_values("size")
        _lines(axes, rows)
        ticks = rows.drop_duplicates("size")
        labels = [f"{size:,}" for size in ticks["size"]]
        if beside:
            labels = [f"{a}\n{b:,}" for a, b in zip(labels, ticks[beside], strict=True)]
        axes.set_xticks(ticks["size"], labels)
        below = f"; below: {beside}" if beside else ""
        axes.set(title=title, xlabel=f"{axis}, logarithmic{below}")
    panels[0, 0].set_ylabel(f"EER (%) on {list_name!r}, logarithmic\n{INTERVAL}")
    entries = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels[0]]
    handles = {label: handle for handle, label in chain(*entries)}
    panels[0, -1].legend(handles.values(), handles.keys(), **LEGEND)
    return figure


def _lines(axes: plt.Axes, rates: pd.DataFrame) -> None:
    """One line a loss with its intervals; the losses stand a little apart at each size."""
    losses = list(dict.fromkeys(rates["loss"]))
    least, most = rates["size"].min(), rates["size"].max()
    width = max(most / least, 2.0)
    for place, loss in enumerate(losses):
        rows = rates[rates["loss"] == loss]
        moved = rows["size"] * width ** (APART * (place - (len(losses) - 1) / 2))
        axes.errorbar(moved, 100 * rows["rate"], whiskers(rows), **look(loss).errorbar)
    axes.set(xscale="log", xlim=(least / width**0.08, most * width**0.08))
    axes.xaxis.set_minor_locator(NullLocator())
    percent_axis(axes.yaxis)
    axes.grid(axis="x", visible=False)
