"""Figures of size: the error rate against batch size, utterances a speaker, and speakers."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studylib.reports.figures.style import MARKS, colour
from studylib.reports.figures.style import percent_axis as percent_scale

# Each comparison of batch sizes: its title, and what goes with the size on the axis.
PANELS = {
    "equal_crops": ("equal crops seen", "steps"),
    "equal_steps": ("equal steps", "crops"),
}
APART = 0.015  # share of the axis between the marks of two losses at one size: intervals stay apart


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
    of_batches = rates[rates["comparison"].isin(shown)]
    for axes, comparison in zip(panels[0], shown, strict=True):
        title, beside = PANELS[comparison]
        rows = of_batches[of_batches["comparison"] == comparison]
        _lines(axes, rows, seeds, marks, of_batches["size"])
        sizes = rows.drop_duplicates("size").sort_values("size")
        labels = [
            f"{size:,}\n{number:,}"
            for size, number in sizes[["size", beside]].itertuples(index=False)
        ]
        axes.set_xticks(sizes["size"], labels)
        axes.set(title=f"At {title}", xlabel=f"batch (crops), logarithmic; below: {beside}")
    panels[0, 0].set_ylabel(_ylabel(list_name, seeds))
    _legend(panels[0])
    return figure


def eer_by_speakers(rates: pd.DataFrame, seeds: pd.DataFrame, *, list_name: str) -> Figure:
    """EER against the number of training speakers, one line a loss. Frames as `eer_by_batch`."""
    rows = rates[rates["comparison"] == "training_speakers"]
    title = "Speakers to learn from, at equal crops seen"
    return _one_panel(rows, seeds, _marks(rates), list_name, title, "training speakers")


def eer_by_utterances(rates: pd.DataFrame, seeds: pd.DataFrame, *, list_name: str) -> Figure:
    """EER against M, the utterances of each speaker in a batch, one line a loss.

    Parameters
    ----------
    rates : DataFrame
        Columns loss, run, size (M), rate, low, high, as in `settings.by_utterances`.
    seeds, list_name
        As in `eer_by_batch`.
    """
    title = "Utterances of each speaker in a batch of equal size"
    return _one_panel(rates, seeds, _marks(rates), list_name, title, "utterances of each speaker")


def _one_panel(
    rows: pd.DataFrame,
    seeds: pd.DataFrame,
    marks: dict[str, str],
    list_name: str,
    title: str,
    xlabel: str,
) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    _lines(axes, rows, seeds, marks, rows["size"])
    sizes = sorted(rows["size"].unique())
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set(title=title, xlabel=f"{xlabel}, logarithmic", ylabel=_ylabel(list_name, seeds))
    _legend([axes])
    return figure


def _marks(rates: pd.DataFrame) -> dict[str, str]:
    """A mark for each loss, the same in all panels: no reader depends on colour."""
    losses = dict.fromkeys(rates["loss"])
    return {loss: MARKS[number % len(MARKS)] for number, loss in enumerate(losses)}


def _lines(
    axes: plt.Axes,
    rates: pd.DataFrame,
    seeds: pd.DataFrame,
    marks: dict[str, str],
    sizes: pd.Series,
) -> None:
    """One line a loss, on an axis wide enough for `sizes`."""
    width = max(sizes.max() / sizes.min(), 2.0)
    axes.set_xscale("log")
    axes.set_xlim(sizes.min() / width**0.08, sizes.max() * width**0.08)
    middle = (rates["loss"].nunique() - 1) / 2
    for place, (loss, line) in enumerate(rates.groupby("loss", sort=False)):
        fill = colour(loss)
        x = line["size"].to_numpy(dtype=float) * width ** (APART * (place - middle))
        axes.vlines(x, 100 * line["low"], 100 * line["high"], color=fill, linewidth=3, alpha=0.4)
        axes.plot(x, 100 * line["rate"], marks[loss], linestyle="-", color=fill, label=loss)
        for run, at in zip(line["run"], x, strict=True):
            each = 100 * seeds.loc[seeds["run"] == run, "eer"]
            if len(each) > 1:
                axes.plot(np.full(len(each), at), each, ".", color="black", markersize=4, zorder=3)
    axes.xaxis.set_minor_locator(NullLocator())
    percent_scale(axes.yaxis)
    axes.grid(axis="y", alpha=0.3)


def _ylabel(list_name: str, seeds: pd.DataFrame) -> str:
    dots = ", dots: seeds" if seeds["run"].duplicated().any() else ""
    return f"EER (%) on {list_name!r}, logarithmic\n95 % interval{dots}"


def _legend(panels: Sequence[plt.Axes]) -> None:
    """Every loss of any panel, right of the last one."""
    shown = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        shown |= dict(zip(names, handles, strict=True))
    panels[-1].legend(
        shown.values(),
        shown.keys(),
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        fontsize=9,
        frameon=False,
    )
