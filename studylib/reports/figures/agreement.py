"""The figure of how far another test set ranks the losses as the study's own does."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from studylib.reports.figures import style
from studylib.reports.figures.style import look


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
    sets = dict(list(table.set_index("loss").groupby("test_set")))
    for axes, row in zip(panels[0], agreement.itertuples(), strict=True):
        there = sets[row.test_set]
        for loss in there.index:
            reaches = [style.whiskers(part.loc[[loss]]) for part in (sets[own], there)]
            places = [100 * part.loc[loss, "rate"] for part in (sets[own], there)]
            looks = look(loss).errorbar | {"linestyle": "none", "elinewidth": 0.8}
            axes.errorbar(*places, xerr=reaches[0], yerr=reaches[1], **looks)
        numbers = f"Spearman {row.spearman:.2f} [{row.low:.2f}, {row.high:.2f}]"
        axes.set_title(f"{row.test_set}\n{numbers}")
        for axis in (axes.xaxis, axes.yaxis):
            style.percent_axis(axis)
        axes.set_xlabel(f"EER (%) on {own}")
    panels[0, 0].set_ylabel("EER (%) on the further set\n95 % intervals")
    panels[0, -1].legend(**style.LEGEND)
    return figure
