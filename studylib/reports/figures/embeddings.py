"""Figures of embeddings: maps of the same utterances under several losses, and their geometry."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from studylib.reports.figures.style import NONTARGET, TARGET, look, run_title

MOST_COLOURS = 8
OTHERS = "others"


def speaker_maps(
    maps: pd.DataFrame, colour_by: str = "speaker", named: Sequence[str] = ()
) -> Figure:
    """One map a run, every utterance a point, in all maps of one colour and mark.

    Parameters
    ----------
    maps : DataFrame
        From `embedding_map`.
    colour_by : str
        A column. Numbers get a scale of colours; of other values eight get a colour and a mark.
    named : sequence of str
        Which eight; unless given, the commonest.
    """
    titles = {
        row.run: f"{run_title(row.run, row.loss)} (EER {100 * row.eer:.1f} %)"
        for row in maps.drop_duplicates("run").itertuples()
    }
    shown = maps.assign(title=maps["run"].map(titles))
    looks = {"palette": "viridis"}
    if not pd.api.types.is_numeric_dtype(maps[colour_by]):
        common = maps[colour_by].value_counts().index
        names = list(named or common)[:MOST_COLOURS]
        values = maps[colour_by].where(maps[colour_by].isin(names), OTHERS)
        names += [OTHERS] if (values == OTHERS).any() else []
        shown = shown.assign(**{colour_by: values})
        shown = pd.concat([shown[values == OTHERS], shown[values != OTHERS]])  # drawn on top
        fills = dict(zip(names, seaborn.color_palette("colorblind", len(names)), strict=True))
        looks = {"palette": fills | {OTHERS: "#cccccc"}, "hue_order": names}
        looks |= {"style": colour_by, "style_order": names}
    rows = -(-len(titles) // 4)
    with plt.rc_context({"figure.constrained_layout.use": False}):  # seaborn lays out the panels
        grid = seaborn.relplot(
            shown,
            x="x",
            y="y",
            hue=colour_by,
            col="title",
            col_wrap=-(-len(titles) // rows),
            col_order=list(titles.values()),
            height=2.9,
            s=30,
            facet_kws={"sharex": False, "sharey": False},
            **looks,
        )
    grid.set(xticks=[], yticks=[], xlabel="", ylabel="").set_titles("{col_name}")
    for axes in grid.axes:
        axes.set_aspect("equal", adjustable="datalim")
    return grid.figure


def geometry(table: pd.DataFrame) -> Figure:
    """Left: cosines of pairs of utterances. Right: alignment against uniformity.

    Parameters
    ----------
    table : DataFrame
        From `geometry_table`.
    """
    height = max(3.4, 1.2 + 0.3 * len(table))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, height), layout="constrained")
    rows = np.arange(len(table))[::-1]
    for kind, fill, label in (
        ("between", NONTARGET, "two speakers"),
        ("within", TARGET, "one speaker"),
    ):
        mean, sd = table[f"{kind}_mean"], table[f"{kind}_sd"]
        left.errorbar(mean, rows, xerr=sd, fmt="o", color=fill, linewidth=3, label=label)
    left.set_yticks(rows, map(run_title, table["run"], table["loss"]))
    left.set_xlabel("cosine of two utterances: mean and standard deviation of all pairs")
    left.legend(frameon=False)
    for row in table.itertuples():
        looks = look(row.loss)
        style = {"color": looks.colour, "marker": looks.mark, "ls": "", "ms": 8}
        label = run_title(row.run, row.loss)
        right.plot(row.uniformity, row.alignment, label=label, mec="black", **style)
    right.set(xlabel="uniformity (lower: more evenly spread)")
    right.set(ylabel="alignment (lower: tighter speakers)")
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", frameon=False)
    return figure
