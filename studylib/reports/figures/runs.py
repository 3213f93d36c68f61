"""Figures of one run: its curve, its scores, its errors."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from scipy.special import ndtri

from studylib.reports.figures.style import NONTARGET, TARGET, look
from studylib.statistics.error_rates import operating_points

DET_TICKS = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
PRIORS = {0.01: "o", 0.05: "s"}  # of a target, for the marks of the least detection costs
LABELS = {"loss": "training loss", "learning_rate": "learning rate"}
LABELS |= {"dev_eer": "development EER (%), one 4-s crop"}


def training_curve(curve: pd.DataFrame, *, run: str, loss: str) -> Figure:
    """Loss, learning rate, scheduled numbers and development EER, against the crops seen.

    `curve` (curve.csv) has the columns crops, step and epoch, and one for each panel; dev_eer is a
    fraction, and blank where it was not measured.
    """
    own, curve = look(loss), curve.assign(dev_eer=100 * curve.get("dev_eer", np.nan))
    shown = [name for name in curve if name not in ("crops", "step", "epoch")]
    shown = [name for name in shown if curve[name].notna().any()]
    figure = plt.figure(figsize=(3 * max(len(shown), 1) + 1, 2.8 if shown else 0.5))
    for place, name in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1)
        rows = curve.dropna(subset=name)
        marker = own.mark if len(rows) < len(curve) else None
        x, y = rows["crops"] / 1000, rows[name]
        seaborn.lineplot(x=x, y=y, color=own.colour, marker=marker, ax=axes)
        axes.set(xlabel="training crops seen (thousands)", ylabel=LABELS.get(name, name))
    figure.suptitle(run if shown else f"{run}: not trained, no curve")
    return figure


def scores_and_det(scores: pd.DataFrame, *, threshold: float, eer: float) -> Figure:
    """Histograms of target and nontarget scores, and the detection error trade-off.

    `scores` has the columns score and target.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
    counts = scores["target"].value_counts()
    kinds = {True: f"target ({counts[True]:,})", False: f"nontarget ({counts[False]:,})"}
    seaborn.histplot(
        x=scores["score"],
        hue=scores["target"].map(kinds),
        hue_order=kinds.values(),
        palette=[TARGET, NONTARGET],
        bins=80,
        stat="density",
        common_norm=False,
        element="step",
        ax=left,
    )
    left.get_legend().set_title(None)
    left.axvline(threshold, color="black", linewidth=1)
    left.set(xlabel=f"score; line: EER threshold {threshold:.3f}", title=f"EER {100 * eer:.2f} %")
    det_axes(right)
    det_curve(right, scores["score"], scores["target"], None, "black", "-")
    return figure


def det_axes(axes: plt.Axes) -> None:
    """Normal-deviate axes from 0.1 to 50 %, in per cent, with the line of equal errors."""
    ticks, labels = ndtri(DET_TICKS), [f"{100 * tick:g}" for tick in DET_TICKS]
    ends = ndtri([0.0008, 0.5])
    axes.plot(ends, ends, color="lightgrey", linewidth=1, zorder=0)
    axes.set(xlim=ends, ylim=ends, aspect="equal", title="Detection error trade-off")
    axes.set(xlabel="false alarms (%), normal deviate", ylabel="misses (%), normal deviate")
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)


def det_curve(axes: plt.Axes, scores, targets, label: str | None, colour: str, line="") -> None:
    """One system on `det_axes`; with a `line`, a mark at the least cost of each of `PRIORS`.

    Points closer to each other than a pixel are left out.
    """
    rates = np.stack(operating_points(scores, targets)[:2], axis=1)  # false alarms, misses
    deviates = ndtri(np.clip(rates, 1e-5, 1 - 1e-5))
    kept = np.unique(np.round(deviates, 2), axis=0, return_index=True)[1]
    axes.plot(*deviates[np.sort(kept)].T, line or "-", color=colour, label=label)
    for prior, mark in PRIORS.items() if line else ():
        least = np.argmin(rates @ [1 - prior, prior])
        axes.plot(*deviates[least], mark, color=colour, markersize=4)
