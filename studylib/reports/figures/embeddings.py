"""Maps of the same utterances under several losses."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from studylib.reports.figures.style import MARKS, run_title


def speaker_maps(
    maps: pd.DataFrame, colour_by: str = "speaker", named: Sequence[str] = ()
) -> Figure:
    """One map a run, every utterance a point of the same colour and mark in all maps.

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
        values = pd.Categorical(values, [*names, "others"]).remove_unused_categories()
        maps = maps.assign(**{colour_by: values}).sort_values(colour_by, ascending=False)
        fills = seaborn.color_palette("colorblind", len(names))
        fills = dict(zip(names, fills, strict=True)) | {"others": "#cccccc"}
        marks = dict(zip(names, MARKS, strict=False)) | {"others": "."}
        looks |= {"palette": fills, "style": colour_by, "markers": marks}
    looks |= {"col": "run", "col_order": runs, "col_wrap": min(3, len(runs)), "height": 2.9}
    own_axes = {"sharex": False, "sharey": False}
    with plt.rc_context({"figure.constrained_layout.use": False}):  # seaborn lays it out itself
        grid = seaborn.relplot(maps, x="x", y="y", facet_kws=own_axes, **looks)
    for run, axes in grid.axes_dict.items():
        loss, eer = maps.loc[maps["run"] == run, ["loss", "eer"]].iloc[0]
        axes.set(title=f"{run_title(run, loss)} (EER {100 * eer:.1f} %)", xticks=[], yticks=[])
        axes.set_aspect("equal", adjustable="datalim")
    return grid.set_axis_labels("", "").figure
