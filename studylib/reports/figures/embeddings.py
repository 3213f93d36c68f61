"""Figures of embeddings: maps of the same utterances under several losses, cosines of pairs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from studylib.reports.figures.style import MARKS, NONTARGET, TARGET, run_title


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
    runs = list(dict.fromkeys(maps["run"]))
    looks = {"hue": colour_by, "palette": "viridis", "s": 45}
    if not pd.api.types.is_numeric_dtype(maps[colour_by]):
        names = list(named or maps[colour_by].value_counts().index)[: len(MARKS)]
        values = maps[colour_by].where(maps[colour_by].isin(names), "others")
        fills = [*seaborn.color_palette("colorblind", len(names)), "#cccccc"]
        marks = [*MARKS[: len(names)], "."]
        names += ["others"] if "others" in set(values) else []
        maps = maps.assign(**{colour_by: pd.Categorical(values, names)})
        maps = maps.sort_values(colour_by, ascending=False)  # others below
        looks |= {
            "palette": fills[: len(names)],
            "markers": marks[: len(names)],
            "style": colour_by,
        }
    rows = -(-len(runs) // 4)
    columns = -(-len(runs) // rows)
    size = (2.8 * columns + 1.5, 2.9 * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axes in panels.flat[len(runs) :]:
        axes.remove()
    for axes, run in zip(panels.flat, runs, strict=False):
        points = maps[maps["run"] == run]
        seaborn.scatterplot(points, x="x", y="y", ax=axes, **looks)
        title = run_title(run, points["loss"].iloc[0])
        axes.set(title=f"{title} (EER {100 * points['eer'].iloc[0]:.1f} %)", xlabel="", ylabel="")
        axes.set(xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
        entries = axes.get_legend_handles_labels()
        axes.get_legend().remove()
    figure.legend(*entries, title=colour_by, loc="outside right center")
    return figure


def cosines(table: pd.DataFrame) -> Figure:
    """Mean and standard deviation of the cosines of all pairs, within and between speakers.

    Parameters
    ----------
    table : DataFrame
        From `geometry_table`.
    """
    figure, axes = plt.subplots(figsize=(7, max(2.5, 1.2 + 0.3 * len(table))))
    rows = np.arange(len(table))[::-1]
    looks = {"within": (0.1, TARGET, "one speaker"), "between": (-0.1, NONTARGET, "two speakers")}
    for kind, (shift, fill, label) in looks.items():
        mean, sd = table[f"{kind}_mean"], table[f"{kind}_sd"]
        axes.errorbar(mean, rows + shift, xerr=sd, fmt="o", color=fill, lw=3, label=label)
    axes.set_yticks(rows, map(run_title, table["run"], table["loss"]))
    axes.set_xlabel("cosine of two utterances: mean and standard deviation of all pairs")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return figure
