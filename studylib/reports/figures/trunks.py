"""What a better trunk costs: error rates against multiply-adds."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from studylib.reports.figures.style import COLOURS, MARKS, percent_axis, run_title

AREA = 12.0  # points squared for a million parameters, on top of a mark that can be seen


def eer_by_multiply_adds(table: pd.DataFrame, *, list_name: str) -> Figure:
    """One mark a run, its area the number of parameters, with its interval.

    Parameters
    ----------
    table : DataFrame
        Columns run, loss, rate, low, high (fractions), parameters, multiply_adds (of a 2-s
        input) and receptive_field (s).
    list_name : str
        The trial list.
    """
    figure, axes = plt.subplots(figsize=(8, 4.2))
    for number, row in enumerate(table.sort_values("multiply_adds").itertuples()):
        rate, cost = 100 * row.rate, row.multiply_adds / 1e6
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        title, millions = run_title(row.run, row.loss), row.parameters / 1e6
        axes.errorbar(
            cost,
            rate,
            [[rate - 100 * row.low], [100 * row.high - rate]],
            marker=mark,
            markersize=(20 + AREA * millions) ** 0.5,
            linestyle="",
            color=colour,
            elinewidth=2,
            label=f"{title}: {millions:.1f} M, {row.receptive_field:.2f} s",
        )
    axes.set(
        xscale="log",
        xlabel="multiply-adds of a 2-s input (millions), logarithmic",
        ylabel=f"EER (%) on {list_name!r}, logarithmic\n95 % interval over test speakers and seeds",
        title="Error rate and cost of the trunks",
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    percent_axis(axes.yaxis)
    axes.legend(
        loc="center left",
        bbox_to_anchor=(1.02, 0.5),
        frameon=False,
        title="by cost: parameters (area),\nreceptive field",
    )
    return figure
