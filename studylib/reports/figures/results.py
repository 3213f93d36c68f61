"""Figures of a whole study: error rates with intervals, paired differences, settings."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from studylib.reports.figures.runs import det_axes, det_line
from studylib.reports.figures.style import NO_LOSS, colour

PERCENT_TICKS = [0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 30, 50]


def eer_with_intervals(table: pd.DataFrame, seeds: pd.DataFrame, *, list_name: str) -> Figure:
    """One row a run, best on top: mean over seeds with its interval, each seed as a dot.

    Parameters
    ----------
    table : DataFrame
        Index run; columns loss, rate, low, high (fractions).
    seeds : DataFrame
        Columns run, eer: one row a run and seed.
    """
    table = table.sort_values("rate", ascending=False)
    many_seeds = seeds["run"].duplicated().any()
    figure, axes = plt.subplots(figsize=(8, 0.8 + 0.33 * len(table)), layout="constrained")
    for height, (run, row) in enumerate(table.iterrows()):
        line = colour(row["loss"])
        axes.plot(
            [100 * row["low"], 100 * row["high"]],
            [height, height],
            color=line,
            linewidth=3,
            alpha=0.45,
            solid_capstyle="butt",
        )
        axes.plot(100 * row["rate"], height, "o", color=line, markersize=7)
        each = 100 * seeds.loc[seeds["run"] == run, "eer"]
        if len(each) > 1:
            axes.plot(each, np.full(len(each), height + 0.27), ".", color="black", markersize=4)
        axes.annotate(
            f"{100 * row['rate']:.2f}",
            (100 * row["high"], height),
            (6, -3),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set_yticks(range(len(table)), table.index)
    percent_axis(axes)
    axes.set(
        xlabel=f"EER (%) on the trials {list_name!r}, with 95 % interval",
        title="Equal error rate" + ("; dots: single seeds" if many_seeds else ""),
    )
    axes.set_xlim(right=1.25 * axes.get_xlim()[1])  # room for the figures
    axes.grid(axis="x", alpha=0.3)
    return figure


def percent_axis(axes: plt.Axes) -> None:
    """A logarithmic x axis of per cents, labelled in plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(PERCENT_TICKS))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def difference_matrix(tests: pd.DataFrame, order: list[str]) -> Figure:
    """Relative differences of EER, row against column; a star where Holm's p is below 0.05.

    Parameters
    ----------
    tests : DataFrame
        Columns first, second, difference (relative: -0.1 says the first is 10 % lower), p_holm.
    order : list of str
        The runs, best first.
    """
    place = {run: index for index, run in enumerate(order)}
    values = np.full((len(order), len(order)), np.nan)
    stars = np.zeros_like(values, dtype=bool)
    for first, second, difference, p in tests[
        ["first", "second", "difference", "p_holm"]
    ].itertuples(index=False):
        i, j = place[first], place[second]
        values[i, j], values[j, i] = difference, 1 / (1 + difference) - 1
        stars[i, j] = stars[j, i] = p < 0.05
    side = 1.8 + 0.52 * len(order)
    figure, axes = plt.subplots(figsize=(side + 1.2, side), layout="constrained")
    image = axes.imshow(100 * values, cmap="PuOr", vmin=-60, vmax=60)
    for (i, j), value in np.ndenumerate(values):
        if i != j:
            dark = abs(value) > 0.4
            axes.text(
                j,
                i,
                f"{100 * value:+.0f}{'*' if stars[i, j] else ''}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    axes.set_xticks(range(len(order)), order, rotation=60, ha="right")
    axes.set_yticks(range(len(order)), order)
    axes.set_title("EER of the row relative to the column (%)\n* differs, Holm-corrected p < 0.05")
    figure.colorbar(image, ax=axes, shrink=0.6, label="lower is better (%)")
    return figure


def det_overlay(systems: dict[str, tuple[str | None, np.ndarray]], targets: np.ndarray) -> Figure:
    """DET curves of several runs. `systems`: run -> (loss, scores)."""
    figure, axes = plt.subplots(figsize=(7.4, 5.4), layout="constrained")
    det_axes(axes)
    styles = ("-", "--", "-.", ":")
    for index, (run, (loss, scores)) in enumerate(systems.items()):
        det_line(axes, scores, targets, colour(loss), styles[index % len(styles)], run)
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    return figure


def margin_by_scale(table: pd.DataFrame) -> Figure:
    """EER over margin and scale, one panel a loss. Columns: loss, margin, scale, eer (fraction)."""
    losses = list(dict.fromkeys(table["loss"]))
    figure, panels = plt.subplots(
        1, len(losses), figsize=(1 + 4 * len(losses), 3.4), squeeze=False, layout="constrained"
    )
    low, high = 100 * table["eer"].min(), 100 * table["eer"].max()
    for axes, loss in zip(panels[0], losses, strict=True):
        cells = table[table["loss"] == loss].pivot(index="margin", columns="scale", values="eer")
        image = axes.imshow(100 * cells, cmap="cividis_r", vmin=low, vmax=high, aspect="auto")
        middle = (low + high) / 2
        for (i, j), value in np.ndenumerate(100 * cells.to_numpy()):
            axes.text(
                j,
                i,
                f"{value:.2f}",
                ha="center",
                va="center",
                color="white" if value > middle else "black",
            )
        axes.set_xticks(range(cells.shape[1]), [_number(scale) for scale in cells.columns])
        axes.set_yticks(range(cells.shape[0]), [_number(margin) for margin in cells.index])
        axes.set(title=loss, xlabel="scale", ylabel="margin")
    figure.colorbar(image, ax=panels[0].tolist(), label="EER (%)")
    return figure


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


FOREST_LIMITS = (-100, 200)  # per cent
VERDICT_COLOURS = {"supported": "#117733", "contradicted": "#D55E00", "undecided": "#0072B2"}


def verdict_forest(conclusions: pd.DataFrame) -> Figure:
    """One row a conclusion: its decisive effect and interval, and the bound it was held against.

    Columns as `verdicts.verdicts` gives them: id, claim, verdict, effect, low, high, claimed.
    """
    figure, axes = plt.subplots(figsize=(12, 1.2 + 0.34 * len(conclusions)), layout="constrained")
    shown = conclusions.iloc[::-1].reset_index(drop=True)
    for height, row in shown.iterrows():
        line = VERDICT_COLOURS.get(row["verdict"].split(",")[0], NO_LOSS)
        ends = np.clip([100 * row["low"], 100 * row["high"]], *FOREST_LIMITS)
        axes.plot(ends, [height, height], color=line, linewidth=3, alpha=0.5)
        axes.plot(np.clip(100 * row["effect"], *FOREST_LIMITS), height, "o", color=line)
        axes.plot(100 * row["claimed"], height, "|", color="black", markersize=12)
        axes.annotate(
            row["verdict"],
            (1.01, height),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=line,
        )
    labels = [f"{row.claim}  {row.id}" for row in shown.itertuples()]
    axes.set_yticks(range(len(shown)), labels, fontsize=8)
    axes.axvline(0, color="lightgrey", zorder=0)
    axes.set_ylim(-0.7, len(shown) - 0.3)
    axes.set(
        xlabel="decisive relative difference of EER (%); bar: the claim's bound\n"
        "95 % interval, not corrected for the number of claims",
        title="The papers' conclusions, tested here",
    )
    return figure
