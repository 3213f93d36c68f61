"""What a better trunk costs: error rates against multiply-adds."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from studylib.reports.figures import style

AREA = 12.0  # points squared for a million parameters, on top of a mark that can be seen


def eer_by_multiply_adds(table: pd.DataFrame, *, list_name: str) -> Figure:
    """One mark a run, its area the number of parameters, with its interval.

    Parameters
    ----------
    table : DataFrame
        Columns run, loss, rate, low, high (fractions), parameters, multiply_adds (of a 2-s input)
        and receptive_field (s).
    list_name : str
        The trial list.
    """
    table = table.sort_values("multiply_adds", ignore_index=True)
    figure, axes = plt.subplots(figsize=(8, 4.2))
    for place, row in table.iterrows():
        millions, title = row["parameters"] / 1e6, style.run_title(row["run"], row["loss"])
        label = f"{title}: {millions:.1f} M, {row['receptive_field']:.2f} s"
        own = style.nth_look(place, label).errorbar | {"linestyle": ""}
        at = row["multiply_adds"] / 1e6, 100 * row["rate"], style.whiskers(table.loc[[place]])
        axes.errorbar(*at, **own, markersize=(20 + AREA * millions) ** 0.5)
    axes.set(xscale="log", title="Error rate and cost of the trunks")
    axes.set_xlabel("multiply-adds of a 2-s input (millions), logarithmic")
    axes.set_ylabel(f"EER (%) on {list_name!r}, logarithmic\n{style.INTERVAL}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    style.percent_axis(axes.yaxis)
    axes.legend(**style.LEGEND, title="by cost: parameters (area),\nreceptive field")
    return figure
