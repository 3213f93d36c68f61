"""The error rate against a size: of batches, training sets, scales of a loss."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from studylib.reports.figures.style import LEGEND, look, nth_look, rate_axis, whiskers

# Each comparison: its title, its axis. Others are losses by their scale.
PANELS = {
    "equal_crops": ("At equal crops seen", "batch (crops)"),
    "equal_steps": ("At equal steps", "batch (crops)"),
    "training_speakers": ("At equal crops seen", "training speakers"),
    "trunks_equal_crops": ("At equal crops seen", "multiply-adds of 2 s"),
    "trunks_other_crops": ("At the crops of each trunk", "multiply-adds of 2 s"),
    "utterances": ("In batches of equal size", "utterances of each speaker"),
}


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
    names, entries = sorted(rates[line].unique(), key=lambda name: (" to " in name, name)), {}
    parts = list(rates.sort_values("size").groupby("comparison", sort=False))
    shape = {"figsize": (2 + 4 * len(parts), 4), "sharey": True, "squeeze": False}
    figure, panels = plt.subplots(1, len(parts), **shape)
    for axes, (comparison, part) in zip(panels[0], parts, strict=True):
        for place, name in enumerate(names):
            rows = part[part[line] == name]
            if rows.empty:
                continue
            own = look(name) if line == "loss" else nth_look(place, name)
            x = 1.01**place * rows["size"]  # so that intervals do not hide each other
            axes.errorbar(x, 100 * rows["rate"], whiskers(rows), **own.errorbar)
        title, axis = PANELS.get(comparison) or (look(comparison).title, "scale")
        axes.set(title=title, xlabel=f"{axis}, logarithmic", xscale="log")
        sizes = part["size"].unique()
        if len(sizes) < 7:
            axes.set_xticks(sizes, map("{:,g}".format, sizes))
            axes.xaxis.set_minor_locator(NullLocator())
        handles, labels = axes.get_legend_handles_labels()
        entries |= zip(labels, handles, strict=True)
    rate_axis(panels[0, 0].yaxis, list_name)
    axes.legend(entries.values(), entries.keys(), **LEGEND, title=line)
    return figure
