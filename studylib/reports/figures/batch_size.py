"""Figures of size: the error rate against batch size, utterances a speaker, and speakers."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studylib.reports.figures.style import look, percent_axis

# Each comparison of batch sizes: its title, and what changes with the size.
PANELS = {
    "equal_crops": ("At equal crops seen", "steps"),
    "equal_steps": ("At equal steps", "crops"),
}
APART = 0.015  # share of the axis between two losses at one size, so that intervals do not hide


def eer_by_batch(rates: pd.DataFrame, *, list_name: str) -> Figure | None:
    """EER against batch size, one line a loss: a panel at equal crops, a panel at equal steps.

    Parameters
    ----------
    rates : DataFrame
        Columns comparison, loss, size, steps, crops, rate, low, high, as in
        `batch_size.size_tables`. A comparison without rows has no panel; None without any.
    list_name : str
        The trial list.
    """
    shown = [name for name in PANELS if (rates["comparison"] == name).any()]
    if not shown:
        return None
    figure, panels = plt.subplots(
        1, len(shown), figsize=(2 + 4 * len(shown), 4), sharey=True, squeeze=False
    )
    for axes, comparison in zip(panels[0], shown, strict=True):
        title, beside = PANELS[comparison]
        rows = rates[rates["comparison"] == comparison]
        _lines(axes, rows, legend=axes is panels[0, -1])
        sizes = rows.drop_duplicates("size").sort_values("size")
        labels = [f"{row['size']:,}\n{row[beside]:,}" for _, row in sizes.iterrows()]
        axes.set_xticks(sizes["size"], labels)
        axes.set(title=title, xlabel=f"batch (crops), logarithmic; below: {beside}")
    panels[0, 0].set_ylabel(_ylabel(list_name))
    return figure


def eer_by_speakers(rates: pd.DataFrame, *, list_name: str) -> Figure | None:
    """EER against the number of training speakers, one line a loss. Rates as in `eer_by_batch`."""
    rows = rates[rates["comparison"] == "training_speakers"]
    return _one_panel(rows, list_name, "At equal crops seen", "training speakers")


def eer_by_utterances(rates: pd.DataFrame, *, list_name: str) -> Figure | None:
    """EER against M, one line a loss. Columns loss, size (M), rate, low, high."""
    return _one_panel(rates, list_name, "At equal batch size", "utterances of each speaker")


def _one_panel(rows: pd.DataFrame, list_name: str, title: str, xlabel: str) -> Figure | None:
    if rows.empty:
        return None
    figure, axes = plt.subplots(figsize=(6, 4))
    _lines(axes, rows, legend=True)
    sizes = sorted(rows["size"].unique())
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set(title=title, xlabel=f"{xlabel}, logarithmic", ylabel=_ylabel(list_name))
    return figure


def _lines(axes: plt.Axes, rates: pd.DataFrame, *, legend: bool) -> None:
    """One line a loss with its intervals; the losses stand a little apart at each size."""
    losses = list(dict.fromkeys(rates["loss"]))
    width = max(rates["size"].max() / rates["size"].min(), 2.0)
    step = width**APART
    places = rates["loss"].map({loss: step**place for place, loss in enumerate(losses)})
    rows = rates.assign(x=rates["size"] * places / step ** ((len(losses) - 1) / 2))
    for loss, line in rows.groupby("loss", sort=False):
        own, rate = look(loss), 100 * line["rate"]
        ends = [rate - 100 * line["low"], 100 * line["high"] - rate]
        axes.errorbar(
            line["x"],
            rate,
            ends,
            color=own.colour,
            marker=own.mark,
            linestyle=own.line,
            elinewidth=2,
            label=own.title,
        )
    axes.set_xscale("log")
    axes.set_xlim(rates["size"].min() / width**0.08, rates["size"].max() * width**0.08)
    axes.xaxis.set_minor_locator(NullLocator())
    percent_axis(axes.yaxis)
    axes.grid(axis="x", visible=False)
    if legend:
        axes.legend()
        seaborn.move_legend(axes, "center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def _ylabel(list_name: str) -> str:
    return f"EER (%) on {list_name!r}, logarithmic\n95 % interval over test speakers and seeds"
