"""Figures of a whole study: error rates with intervals, paired differences, conclusions."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studylib.reports.figures import style
from studylib.reports.figures.runs import det_curve
from studylib.reports.figures.style import Look, look, run_title

MOST_CURVES = 8  # of a DET figure that have a name; the rest is grey
FOREST_ENDS = {"below": -100, "above": 200}  # per cent
FOREST_AXIS = "relative difference of EER that decides (%); shaded: the side claimed\n"
FOREST_AXIS += "95 % interval over test speakers and seeds, not corrected for the number of claims"
VERDICT_LOOKS = {"supported": ("#117733", "o"), "contradicted": ("#D55E00", "X")}
VERDICT_LOOKS |= {"undecided": ("#0072B2", "D")}
# Each comparison of sizes: its title, its axis. Others are losses by their scale.
PANELS = {
    "equal_crops": ("At equal crops seen", "batch (crops)"),
    "equal_steps": ("At equal steps", "batch (crops)"),
    "training_speakers": ("At equal crops seen", "training speakers"),
    "utterances": ("In batches of equal size", "utterances of each speaker"),
}


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
    _rows_of_runs(axes, table)
    heights = table.index.get_indexer(seeds["run"]) + 0.3
    axes.scatter(100 * seeds["eer"], heights, color="black", s=6)
    axes.set_title("Equal error rate (%); dots: single seeds")
    style.rate_axis(axes.xaxis, list_name)
    return figure


def rates_by_level(rates: pd.DataFrame) -> Figure:
    """One panel a level of one factor, one row a run: the same rows everywhere.

    The best run at the first level is on top; where the order holds, rates grow downwards.

    Parameters
    ----------
    rates : DataFrame
        Of one factor: run, loss, factor, level, rate, low, high.
    """
    levels = dict(list(rates.set_index("run").groupby("level", sort=False)))
    order = next(iter(levels.values()))["rate"].sort_values().index
    shape = {"figsize": (1.7 + 2.5 * len(levels), 1.3 + 0.26 * len(order)), "squeeze": False}
    figure, panels = plt.subplots(1, len(levels), sharex=True, sharey=True, **shape)
    for axes, (level, table) in zip(panels[0], levels.items(), strict=True):
        _rows_of_runs(axes, table.loc[order])
        axes.set_title(level)
    style.percent_axis(axes.xaxis, style.FEW_TICKS)
    figure.suptitle(rates["factor"].iloc[0].capitalize())
    figure.supxlabel("EER (%), logarithmic; 95 % interval over speakers", fontsize=10)
    return figure


def _rows_of_runs(axes: plt.Axes, table: pd.DataFrame) -> None:
    """The rate and interval of each run (index), the first on top."""
    for place, (run, row) in enumerate(table.iterrows()):
        reach = style.whiskers(table.loc[[run]])
        axes.errorbar(100 * row["rate"], place, xerr=reach, **look(row["loss"]).errorbar)
    axes.set_yticks(range(len(table)), map(run_title, table.index, table["loss"]))
    axes.set_ylim(len(table) - 0.4, -0.6)


def eer_by_size(rates: pd.DataFrame, *, list_name: str, line: str = "loss") -> Figure | None:
    """EER against a size, one panel a comparison, one line a loss. None without rows.

    Parameters
    ----------
    rates : DataFrame
        Columns comparison, size, rate, low, high (fractions), and the one named by `line`.
    list_name : str
        The trial list.
    line : str
        Column: its values, as they are in print, have a line each.
    """
    if rates.empty:
        return None
    # "0.1 to 0.3", the ends of a schedule, after plain numbers.
    names = sorted(rates[line].unique(), key=lambda name: (" to " in name, name))
    parts = list(rates.sort_values("size").groupby("comparison", sort=False))
    shape = {"figsize": (2 + 4 * len(parts), 4), "sharey": True, "squeeze": False}
    figure, panels = plt.subplots(1, len(parts), **shape)
    for axes, (comparison, part) in zip(panels[0], parts, strict=True):
        for place, name in enumerate(names):  # also those without rows here: for the legend
            rows = part[part[line] == name]
            own = look(name) if line == "loss" else style.nth_look(place, name)
            x = 1.01**place * rows["size"]  # so that intervals do not hide each other
            axes.errorbar(x, 100 * rows["rate"], style.whiskers(rows), **own.errorbar)
        title, axis = PANELS.get(comparison) or (look(comparison).title, "scale")
        axes.set(title=title, xlabel=f"{axis}, logarithmic", xscale="log")
        sizes = part["size"].unique()
        if len(sizes) < 7:
            axes.set_xticks(sizes, map("{:,g}".format, sizes))
            axes.xaxis.set_minor_locator(NullLocator())
    style.rate_axis(panels[0, 0].yaxis, list_name)
    axes.legend(**style.LEGEND, title=line)
    return figure


def eer_by_trunk(rates: pd.DataFrame, titles: Mapping[str, str], *, list_name: str) -> Figure:
    """One panel a comparison, one row a trunk, the one with fewest multiply-adds on top.

    Parameters
    ----------
    rates : DataFrame
        From `trunks.compare_trunks`.
    titles : comparison -> title
    list_name : str
        The trial list.
    """
    trunks = rates.groupby("trunk")["size"].first().sort_values().index
    losses, parts = sorted(rates["loss"].unique()), list(rates.groupby("comparison", sort=False))
    height = 1.5 + (0.2 + 0.1 * len(losses)) * len(trunks)
    shape = {"figsize": (2 + 3.5 * len(parts), height), "squeeze": False}
    figure, panels = plt.subplots(1, len(parts), sharex=True, sharey=True, **shape)
    for axes, (comparison, part) in zip(panels[0], parts, strict=True):
        for place, loss in enumerate(losses):  # also those without rows here: for the legend
            rows = part[part["loss"] == loss]
            heights = trunks.get_indexer(rows["trunk"]) + 0.5 * place / len(losses)
            looks = look(loss).errorbar | {"linestyle": "none"}
            axes.errorbar(100 * rows["rate"], heights, xerr=style.whiskers(rows), **looks)
        title = titles[comparison].capitalize()
        axes.set(title=title, yticks=range(len(trunks)), yticklabels=trunks)
        style.percent_axis(axes.xaxis, style.FEW_TICKS)
    axes.invert_yaxis()
    axes.legend(**style.LEGEND)
    figure.supxlabel(f"EER (%) on {list_name!r}, logarithmic; {style.INTERVAL}", fontsize=10)
    return figure


def eer_on_two_sets(table: pd.DataFrame, agreement: pd.DataFrame, *, own: str) -> Figure | None:
    """One panel a further test set: each loss by its EER on the study's own and on that one.

    None where there is no further set. Losses in the same order on both sets lie on a rising line.

    Parameters
    ----------
    table : DataFrame
        From `test_sets.test_set_table`, one run a loss.
    agreement : DataFrame
        From `test_sets.agreement_table`.
    own : str
        The study's own test set.
    """
    if agreement.empty:
        return None
    size = {"figsize": (3 * len(agreement) + 2, 3.4), "squeeze": False, "sharex": True}
    figure, panels = plt.subplots(1, len(agreement), **size)
    rates = table.set_index(["test_set", "loss"])
    for axes, row in zip(panels[0], agreement.itertuples(), strict=True):
        for loss in rates.loc[row.test_set].index:
            here, there = rates.loc[[(own, loss)]], rates.loc[[(row.test_set, loss)]]
            reach = {"xerr": style.whiskers(here), "yerr": style.whiskers(there)}
            looks = look(loss).errorbar | {"linestyle": "none", "elinewidth": 0.8}
            axes.errorbar(100 * here["rate"], 100 * there["rate"], **reach, **looks)
        numbers = f"Spearman {row.spearman:.2f} [{row.low:.2f}, {row.high:.2f}]"
        axes.set(title=f"{row.test_set}\n{numbers}", xlabel=f"EER (%) on {own}")
        style.percent_axis(axes.xaxis)
        style.percent_axis(axes.yaxis)
    panels[0, 0].set_ylabel("EER (%) on the further set\n95 % intervals")
    axes.legend(**style.LEGEND)
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
    ratios = 1 / (1 + tests[["difference", "high", "low"]])
    stars, shown = tests["p_holm"].lt(0.05).map({True: "*", False: ""}), ratios.map("{:.2f}".format)
    texts = shown["difference"] + stars + "\n" + shown["high"] + "-" + shown["low"]
    titles = {run: run_title(run, loss) for run, loss in losses.items()}
    cells = tests[["second", "first"]].replace(titles).astype(pd.CategoricalDtype(titles.values()))
    cells = cells.assign(value=np.log2(ratios["difference"]), text=texts)
    wide = cells.pivot(index="second", columns="first")
    size = 2.8 + 0.62 * len(wide)
    figure, axes = plt.subplots(figsize=(size + 0.8, 0.85 * size))
    looks = {"cmap": "crest", "vmin": min(0, cells["value"].min()), "linewidths": 0.5}
    looks |= {"annot_kws": {"fontsize": 6.5}, "cbar_kws": {"label": "log2 of the ratio of EERs"}}
    seaborn.heatmap(wide["value"], annot=wide["text"].fillna(""), fmt="", ax=axes, **looks)
    axes.grid(False)
    axes.tick_params("x", rotation=90)
    axes.set_title(
        "EER of the row as a multiple of the column's, below it the 95 % interval\n"
        "* differs, p < 0.05 after Holm's correction for all pairs"
    )
    axes.set(xlabel="", ylabel="")
    return figure


def det_overlay(curves: pd.DataFrame) -> Figure:
    """The DET curves of `losses.det_table`, in its order.

    At most eight trained runs have a name; the others are grey. Where a loss occurs twice, colours
    are of runs, not of losses. A circle marks the least detection cost where 1 of 100 trials is a
    target, a square where 5 are.
    """
    figure, axes = plt.subplots(figsize=(7, 4.6))
    named = curves.dropna(subset="loss").drop_duplicates("run").set_index("run")["loss"]
    named = named.iloc[:MOST_CURVES]
    for run, curve in curves.groupby("run", sort=False):
        own = Look(None, "darkgrey", "", "-")
        if run in named:
            place = named.index.get_loc(run)
            own = look(named[run]) if named.is_unique else style.nth_look(place, run)
        det_curve(axes, curve[["false_alarms", "misses"]].to_numpy() / 100, own)
    axes.axline((0, 0), slope=1, color="lightgrey", zorder=0)
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
        names = part["claim"] + "  " + part["id"]
        shown = 100 * part[["effect", "low", "high", "claimed"]].astype(float)
        reach = part["side"].map(FOREST_ENDS) - shown["claimed"]
        axes.barh(names, reach, left=shown["claimed"], color="#117733", alpha=0.2, linewidth=0)
        for name, text, numbers in zip(names, part["verdict"], shown.to_numpy(), strict=True):
            effect, low, high, _ = numbers
            kind = text.partition(",")[0]
            colour, mark = VERDICT_LOOKS.get(kind, (style.NO_LOSS, ""))
            if kind in VERDICT_LOOKS:
                text += f"\n{effect:+.0f} % [{low:+.0f}, {high:+.0f}]"
                axes.plot([low, high], [name, name], color=colour, linewidth=2)
                axes.plot([effect], [name], color=colour, marker=mark)
            where = {"xytext": (0, 4), "textcoords": "offset points", "fontsize": 6}
            axes.annotate(text, (130, name), **where, color=colour, ha="center")
        axes.set(title=study.replace("_", " "), xlim=FOREST_ENDS.values())
        axes.axvline(0, color="grey", linewidth=1)
        axes.grid(axis="y", visible=False)
    panels[0, 0].set_ylim(len(part) - 0.5, -0.7)
    figure.supxlabel(FOREST_AXIS, fontsize="medium")
    return figure
