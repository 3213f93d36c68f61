"""Figures of embeddings: maps of speakers, cosines of pairs, and the geometry of all runs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from studylib.reports.figures.style import NONTARGET, TARGET, colour

# Okabe and Ito's colours but yellow, too pale for small marks; with five shapes, 35 speakers
# before a mark occurs again.
SPEAKER_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
SPEAKER_MARKS = ("o", "^", "s", "D", "v")
MOST_NAMED = len(SPEAKER_COLOURS) * len(SPEAKER_MARKS)
COLUMNS = 4


def speaker_maps(maps: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """One map a run, every utterance a point, every speaker a colour and shape, in all maps alike.

    Parameters
    ----------
    maps : DataFrame
        Columns run, x, y, speaker, and sex where it is known: men's marks are open.
    table : DataFrame
        Columns run and eer (a fraction).
    """
    eers = table.set_index("run")["eer"]
    titles = {run: f"{run} (EER {100 * eers[run]:.1f} %)" for run in maps["run"].unique()}
    figure, panels = _grid(titles, 2.9)
    speakers = maps.drop_duplicates("speaker").sort_values("speaker")
    sexes = speakers["sex"] if "sex" in speakers else [None] * len(speakers)
    for number, (speaker, sex) in enumerate(zip(speakers["speaker"], sexes, strict=True)):
        fill = SPEAKER_COLOURS[number % len(SPEAKER_COLOURS)]
        mark = SPEAKER_MARKS[number // len(SPEAKER_COLOURS) % len(SPEAKER_MARKS)]
        for run, axes in panels.items():
            points = maps[(maps["run"] == run) & (maps["speaker"] == speaker)]
            axes.plot(
                points["x"],
                points["y"],
                mark,
                markersize=4,
                markerfacecolor="none" if sex == "m" else fill,
                markeredgecolor=fill,
                markeredgewidth=0.9,
                label=f"{speaker} ({sex})" if isinstance(sex, str) else speaker,
            )
    for axes in panels.values():
        axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
        axes.set_aspect("equal", adjustable="datalim")
    if len(speakers) <= MOST_NAMED:
        figure.legend(
            *next(iter(panels.values())).get_legend_handles_labels(),
            loc="outside lower center",
            ncols=7 if len(panels) > 2 else 5,
            fontsize=7,
            frameon=False,
            handletextpad=0.1,
            columnspacing=1.0,
        )
    return figure


def cosine_histograms(densities: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """One panel a run: how alike are two utterances of one speaker, and of two.

    Parameters
    ----------
    densities : DataFrame
        Columns run, cosine, within, between; each density is drawn relative to its own peak.
    table : DataFrame
        Columns run and d_prime.
    """
    d_primes = table.set_index("run")["d_prime"]
    titles = {run: f"{run} (d′ {d_primes[run]:.2f})" for run in densities["run"].unique()}
    figure, panels = _grid(titles, 2.1)
    for run, axes in panels.items():
        rows = densities[densities["run"] == run]
        for column, fill, label in (
            ("between", NONTARGET, "two speakers"),
            ("within", TARGET, "one speaker"),
        ):
            heights = rows[column] / rows[column].max()
            axes.fill_between(
                rows["cosine"], heights, step="mid", color=fill, alpha=0.6, linewidth=0, label=label
            )
        axes.set(yticks=[0, 1], ylim=(0, 1.3), xlabel="cosine of two utterances")
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    for axes in list(panels.values())[:: min(len(panels), COLUMNS)]:
        axes.set_ylabel("density / its peak")
    next(iter(panels.values())).legend(loc="upper left", fontsize=7, frameon=False, ncols=2)
    return figure


def geometry_planes(table: pd.DataFrame) -> Figure:
    """Every run as a labelled point: alignment against uniformity, and Fisher ratio against rank.

    Parameters
    ----------
    table : DataFrame
        Columns run, loss, alignment, uniformity, fisher_ratio, effective_rank.
    """
    height = max(3.6, 0.24 * len(table) + 1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, height), layout="constrained")
    left.set(
        xlabel="uniformity (log; lower: more evenly spread)",
        ylabel="alignment (lower: tighter speakers)",
    )
    right.set(
        xlabel="effective rank (dimensions in use)",
        ylabel="Fisher ratio (between / within speakers)",
        yscale="log",
    )
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_minor_locator(NullLocator())
    fills = [colour(loss) for loss in table["loss"]]
    for axes, x, y in (
        (left, "uniformity", "alignment"),
        (right, "effective_rank", "fisher_ratio"),
    ):
        axes.scatter(table[x], table[y], c=fills, s=45, edgecolor="black", linewidth=0.5, zorder=3)
        axes.margins(0.1)
        axes.grid(alpha=0.3)
        name_in_margin(axes, table[x].to_numpy(), table[y].to_numpy(), list(table["run"]), fills)
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


def _grid(titles: dict[str, str], height: float) -> tuple[Figure, dict[str, plt.Axes]]:
    """A figure with one titled panel a run, at most four in a row."""
    columns = min(len(titles), COLUMNS)
    rows = -(-len(titles) // columns)
    size = (3 * max(columns, 2), height * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.ravel()[len(titles) :]:
        axes.set_axis_off()
    for title, axes in zip(titles.values(), panels.ravel(), strict=False):
        axes.set_title(title, fontsize=9)
    return figure, dict(zip(titles, panels.ravel(), strict=False))
