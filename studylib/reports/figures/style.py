"""One style for all figures: each loss has its own colour, mark, line and printed name.

Any two of the seven colours, and the grey of what has no loss, are at least 18 apart in CIELAB as
seen with normal sight and with deuteranopia (simulated after Machado et al. 2009). After seven
losses they repeat with another line; marks repeat after eight.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from studylib.losses import LOSSES

COLOURS = ("#0072B2", "#D55E00", "#117733", "#56B4E9", "#E69F00", "#332288", "#E08FB8")
LINES = ("-", "--", ":")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "p")
NO_LOSS = "#777777"  # untrained networks and baselines
INTERVAL = "95 % interval over test speakers and seeds"
TARGET, NONTARGET = COLOURS[0], COLOURS[4]
PERCENT_TICKS = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50)
FEW_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)  # of narrow panels

LEGEND = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5), "frameon": False}  # beside the axes

STYLE = {"figure.constrained_layout.use": True}
STYLE |= {"svg.fonttype": "none", "svg.hashsalt": "studylib"}  # text as text, the same bytes
seaborn.set_theme(context="paper", style="whitegrid", rc=STYLE)


@dataclass(frozen=True)
class Look:
    """How a loss is drawn and named in print."""

    title: str
    colour: str
    mark: str
    line: str

    @property
    def errorbar(self) -> dict[str, object]:
        """Keywords of `Axes.errorbar` for an estimate with its interval."""
        colours = {"color": self.colour, "elinewidth": 2, "label": self.title}
        return colours | {"marker": self.mark, "linestyle": self.line}


def look(loss: str | None) -> Look:
    """The look of a loss; grey for what has none (None)."""
    if loss is None:
        return Look("No loss", NO_LOSS, "h", "-.")
    return nth_look(list(LOSSES).index(loss), LOSSES[loss].title)


def nth_look(place: int, title: str) -> Look:
    """A look for what is no loss, or for several runs of one, by its place in a figure."""
    line = LINES[place // len(COLOURS) % len(LINES)]
    return Look(title, COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)], line)


def run_title(run: str, loss: str | None) -> str:
    """A run's name in print: am_softmax_m0.2_s15 is "AM-softmax m0.2 s15"."""
    name = (run if loss is None else run.replace(loss, look(loss).title)).replace("_", " ")
    return name[0].upper() + name[1:]


def whiskers(rates: pd.DataFrame) -> np.ndarray:
    """The distances (2, R) from the columns rate to low and to high, in per cent."""
    return 100 * np.stack([rates["rate"] - rates["low"], rates["high"] - rates["rate"]])


def percent_axis(axis: Axis, ticks: tuple[float, ...] = PERCENT_TICKS) -> None:
    """A logarithmic axis of per cents, labelled in plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def rate_axis(axis: Axis, list_name: str) -> None:
    """A `percent_axis` of EERs on a trial list."""
    percent_axis(axis)
    axis.set_label_text(f"EER (%) on {list_name!r}, logarithmic\n{INTERVAL}")


def save_figure(figure: Figure, folder: Path, name: str) -> None:
    """Write <name>.png, <name>.pdf and <name>.svg, the same bytes for the same figure."""
    figure.savefig(folder / f"{name}.png", dpi=150)
    for kind, date in (("pdf", "CreationDate"), ("svg", "Date")):
        figure.savefig(folder / f"{name}.{kind}", metadata={date: None})
