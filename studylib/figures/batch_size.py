"""Figures of size: the error rate against batch size and against the number of speakers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from studylib.figures.robustness import MARKS, percent_scale
from studylib.figures.style import colour

# Each comparison of batch sizes: its title, and what goes with the size on the axis.
PANELS = {
    "equal_crops": ("equal crops seen", "steps"),
    "equal_steps": ("equal steps", "crops"),
}
APART = 1.035  # factor between the marks of two losses at one size, so that intervals stay apart


def eer_by_batch(rates: pd.DataFrame, seeds: pd.DataFrame, *, list_name: str) -> Figure:
    """EER against batch size, one line a loss: a panel at equal crops, a panel at equal steps.

    Parameters
    ----------
    rates : DataFrame
        Columns comparison, loss, run, size, steps, crops, rate, low, high, as in
        `batch_size.size_tables`. A comparison without rows has no panel.
    seeds : DataFrame
        Columns run, eer: one row a run and seed; a dot each where a run has several.
    list_name : str
        The trial list.
    """
    shown = [name for name in PANELS if (rates["comparison"] == name).any()]
    figure, panels = plt.subplots(
        1,
        len(shown),
        figsize=(2 + 5 * len(shown), 4.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    marks = _marks(rates)
    for axes, comparison in zip(panels[0], shown, strict=True):
        title, beside = PANELS[comparison]
        rows = rates[rates["comparison"] == comparison]
        _lines(axes, rows, seeds, marks)
        sizes = rows.drop_duplicates("size").sort_values("size")
        labels = [
            f"{size:,}\n{number:,}"
            for size, number in sizes[["size", beside]].itertuples(index=False)
        ]
        axes.set_xticks(sizes["size"], labels)
        axes.set(title=f"At {title}", xlabel=f"batch (crops), logarithmic; below: {beside}")
    panels[0, 0].set_ylabel(_ylabel(list_name))
    _legend(panels[0, -1])
    return figure


def eer_by_speakers(rates: pd.DataFrame, seeds: pd.DataFrame, *, list_name: str) -> Figure:
    """EER against the number of training speakers, one line a loss. Frames as `eer_by_batch`."""
    rows = rates[rates["comparison"] == "training_speakers"]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    _lines(axes, rows, seeds, _marks(rates))
    sizes = sorted(rows["size"].unique())
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set(
        title="Speakers to learn from, at equal crops seen",
        xlabel="training speakers, logarithmic",
        ylabel=_ylabel(list_name),
    )
    _legend(axes)
    return figure


def _marks(rates: pd.DataFrame) -> dict[str, str]:
    """A mark for each loss, the same in all panels: no reader depends on colour."""
    losses = dict.fromkeys(rates["loss"])
    return {loss: MARKS[number % len(MARKS)] for number, loss in enumerate(losses)}


def _lines(axes: plt.Axes, rates: pd.DataFrame, seeds: pd.DataFrame, marks: dict) -> None:
    axes.set_xscale("log")
    middle = (rates["loss"].nunique() - 1) / 2
    for place, (loss, line) in enumerate(rates.groupby("loss", sort=False)):
        fill = colour(loss)
        x = line["size"].to_numpy(dtype=float) * APART ** (place - middle)
        axes.vlines(x, 100 * line["low"], 100 * line["high"], color=fill, linewidth=3, alpha=0.4)
        axes.plot(x, 100 * line["rate"], marks[loss], linestyle="-", color=fill, label=loss)
        for run, at in zip(line["run"], x, strict=True):
            each = 100 * seeds.loc[seeds["run"] == run, "eer"]
            if len(each) > 1:
                axes.plot(np.full(len(each), at), each, ".", color="black", markersize=4, zorder=3)
    axes.xaxis.set_major_locator(FixedLocator(sorted(rates["size"].unique())))
    axes.xaxis.set_minor_locator(NullLocator())
    percent_scale(axes.yaxis)
    axes.grid(axis="y", alpha=0.3)


def _ylabel(list_name: str) -> str:
    return f"EER (%) on {list_name!r}, logarithmic; 95 % interval"


def _legend(axes: plt.Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9, frameon=False)
