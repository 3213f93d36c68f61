"""Figures of a whole study: error rates with intervals, paired differences, conclusions."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from studylib.reports.figures import style
from studylib.reports.figures.runs import det_axes, det_curve
from studylib.reports.figures.style import look, per_cent, run_title
from studylib.statistics.conclusions import UNTESTED

MOST_CURVES = 8  # of a DET figure that have a name; the rest is grey
FOREST_ENDS = {"below": -100, "above": 200}  # per cent
FOREST_AXIS = "relative difference of EER that decides (%); shaded: the side claimed\n"
FOREST_AXIS += "95 % interval over test speakers and seeds, not corrected for the number of claims"
VERDICT_MARKS = {"supported": "o", "contradicted": "X", "undecided": "D"}
VERDICT_COLOURS = {"supported": "#117733", "contradicted": "#D55E00", "undecided": "#0072B2"}


def eer_with_intervals(table: pd.DataFrame, seeds: pd.DataFrame, *, list_name: str) -> Figure:
    """One row a run, the best on top: mean over seeds with its interval, each seed as a dot.

    Parameters
    ----------
    table : DataFrame
        Index run, the best first; columns loss, rate, low, high (fractions).
    seeds : DataFrame
        Columns run, eer: one row a run and seed.
    list_name : str
        The trial list.
    """
    figure, axes = plt.subplots(figsize=(7, 1.1 + 0.26 * len(table)))
    for place, (run, row) in enumerate(table.iterrows()):
        reach = style.whiskers(table.loc[[run]])
        axes.errorbar(100 * row["rate"], place, xerr=reach, **look(row["loss"]).errorbar)
        style.text_beside(axes, place, per_cent(row["rate"]))
    heights = table.index.get_indexer(seeds["run"]) + 0.3
    axes.scatter(100 * seeds["eer"], heights, color="black", s=6)
    axes.set_yticks(range(len(table)), map(run_title, table.index, table["loss"]))
    axes.set(ylim=(len(table) - 0.4, -0.6), title="Equal error rate (%); dots: single seeds")
    style.rate_axis(axes.xaxis, list_name)
    return figure


def difference_matrix(tests: pd.DataFrame, losses: Mapping[str, str]) -> Figure | None:
    """EER of the row as a multiple of the column's, the better runs first: one triangle.

    None where there is one run.

    Parameters
    ----------
    tests : DataFrame
        Columns first, second (the worse of the two), difference (relative: -0.1 where the
        first's EER is 10 % lower), low, high, p_holm. Cells with p_holm below 0.05 have a star.
    losses : run -> loss
        In the order of the rows.
    """
    if tests.empty:
        return None
    titles = {run: run_title(run, loss) for run, loss in losses.items()}
    ratios = 1 / (1 + tests[["difference", "high", "low"]])
    stars, shown = tests["p_holm"].lt(0.05).map({True: "*", False: ""}), ratios.map("{:.2f}".format)
    texts = shown["difference"] + stars + "\n" + shown["high"] + "-" + shown["low"]
    cells = tests[["first", "second"]].assign(value=np.log2(ratios["difference"]), text=texts)
    values, texts = (
        cells.pivot(index="second", columns="first", values=key)
        .reindex(index=list(titles)[1:], columns=list(titles)[:-1])
        .rename(index=titles, columns=titles)
        for key in ("value", "text")
    )
    size = 2.2 + 0.62 * len(titles)
    figure, axes = plt.subplots(figsize=(size + 0.8, 0.85 * size))
    least = min(0, cells["value"].min())
    looks = {"cmap": "crest", "vmin": least, "linewidths": 0.5, "annot_kws": {"fontsize": 6.5}}
    bar = {"label": "log2 of the ratio of EERs"}
    seaborn.heatmap(values, annot=texts.fillna(""), fmt="", cbar_kws=bar, ax=axes, **looks)
    axes.grid(False)
    plt.setp(axes.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    axes.set_title(
        "EER of the row as a multiple of the column's, below it the 95 % interval\n"
        "* differs, p < 0.05 after Holm's correction for all pairs"
    )
    axes.set(xlabel="", ylabel="")
    return figure


def det_overlay(systems: dict[str, tuple[str | None, np.ndarray]], targets: np.ndarray) -> Figure:
    """DET curves of several runs, in the order of `systems` (run -> loss, scores), best first.

    At most eight trained runs have a name; the others are grey. Where a loss occurs twice, colours
    are of runs, not of losses. A circle marks the least detection cost where 1 of 100 trials is a
    target, a square where 5 are.
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    det_axes(axes)
    named = [run for run, (loss, _) in systems.items() if loss is not None][:MOST_CURVES]
    distinct = len({systems[run][0] for run in named}) == len(named)
    for run, (loss, scores) in systems.items():
        if run not in named:
            det_curve(axes, scores, targets, None, "darkgrey", "-")
            continue
        title = run_title(run, loss)
        own = look(loss) if distinct else style.nth_look(named.index(run), title)
        det_curve(axes, scores, targets, title, own.colour, own.line)
    axes.legend(**style.LEGEND, title="by EER, the lowest first\n(others grey)")
    axes.set_title("Detection error trade-off\nleast cost at 1 % (circle), 5 % (square) targets")
    return figure


def verdict_grid(verdicts: pd.DataFrame) -> Figure:
    """One row a conclusion, one panel a study: verdict and decisive effect with its interval.

    The side that a conclusion claims is shaded. What lies outside FOREST_ENDS is cut off.

    Parameters
    ----------
    verdicts : DataFrame
        Columns study and, as `statistics.verdicts` gives them, id, claim, verdict, effect, low,
        high, claimed and side ("above" or "below" the bound `claimed`).
    """
    studies = list(verdicts.groupby("study", sort=False))
    size = (max(4.5 + 2.1 * len(studies), 9), 1.5 + 0.5 * verdicts["id"].nunique())
    figure, panels = plt.subplots(1, len(studies), figsize=size, sharey=True, squeeze=False)
    for axes, (study, part) in zip(panels[0], studies, strict=True):
        colours = _forest(axes, part)
        for place, row in enumerate(part.itertuples()):
            text = row.verdict
            if text != UNTESTED:
                numbers = [100 * number for number in (row.effect, row.low, row.high)]
                text += "\n{:+.0f} % [{:+.0f}, {:+.0f}]".format(*numbers)
            where = {"xytext": (0, 4), "textcoords": "offset points", "fontsize": 6}
            axes.annotate(text, (50, place), **where, color=colours[place], ha="center")
        axes.set_title(study.replace("_", " "))
    figure.supxlabel(FOREST_AXIS, fontsize="medium")
    return figure


def _forest(axes: plt.Axes, conclusions: pd.DataFrame) -> list[str]:
    """The rows of one panel; returns their colours."""
    shown = conclusions.reset_index(drop=True)
    kinds = shown["verdict"].str.split(",").str[0]
    colours = kinds.map(VERDICT_COLOURS).fillna(style.NO_LOSS)
    numbers = 100 * shown[["effect", "low", "high", "claimed"]].astype(float)
    reach = shown["side"].map(FOREST_ENDS) - numbers["claimed"]
    axes.barh(shown.index, reach, left=numbers["claimed"], color="#117733", alpha=0.2, linewidth=0)
    axes.hlines(shown.index, numbers["low"], numbers["high"], colors=colours, linewidth=2)
    for kind, mark in VERDICT_MARKS.items():
        those = kinds == kind
        axes.scatter(numbers["effect"][those], shown.index[those], c=colours[those], marker=mark)
    axes.set_yticks(shown.index, shown["claim"] + "  " + shown["id"])
    axes.set(xlim=FOREST_ENDS.values(), ylim=(len(shown) - 0.5, -0.7))
    axes.axvline(0, color="grey", linewidth=1)
    axes.grid(axis="y", visible=False)
    return colours.tolist()
