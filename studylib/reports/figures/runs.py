"""Figures of one run: its curve, its scores, its errors, a batch under its network."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from scipy.special import ndtri

from studylib.reports.figures.style import NONTARGET, TARGET, look
from studylib.statistics.error_rates import operating_points

DET_TICKS = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])
LEAST_RATE = 1e-5  # drawn
PRIORS = {0.01: "o", 0.05: "s"}  # of a target, for the marks of the least detection costs
LABELS = {"loss": "training loss", "learning_rate": "learning rate"}
LABELS |= {"dev_eer": "development EER (%)\none 4-s crop"}


def training_curve(curve: pd.DataFrame, *, run: str, loss: str) -> Figure:
    """Loss, learning rate, scheduled numbers and development EER, against the crops seen.

    `curve` (curve.csv) has the columns crops, step and epoch, and one for each panel; dev_eer is a
    fraction, and blank where it was not measured.
    """
    curve = curve.assign(dev_eer=100 * curve.get("dev_eer", np.nan)).set_index("crops")
    curve = curve.drop(columns=["step", "epoch"], errors="ignore")
    curve = curve.dropna(axis="columns", how="all").rename(columns=LABELS)
    figure = plt.figure(figsize=(3 * len(curve.columns) + 1, 2.8))
    for place, name in enumerate(curve):
        axes = figure.add_subplot(1, len(curve.columns), place + 1)
        values = curve[name].dropna()
        axes.plot(values.index, values, look(loss).mark + "-", color=look(loss).colour, ms=3)
        axes.set(xlabel="training crops seen", ylabel=name)
    figure.suptitle(run if len(curve.columns) else f"{run}: not trained, no curve")
    return figure


def scores_and_det(scores: pd.DataFrame, *, threshold: float, eer: float) -> Figure:
    """Histograms of target and nontarget scores, and the detection error trade-off.

    `scores` has the columns score and target.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6))
    scores = scores.assign(trial=scores["target"].map({True: "target", False: "nontarget"}))
    colours = {"hue": "trial", "palette": {"target": TARGET, "nontarget": NONTARGET}}
    shares = {"stat": "density", "common_norm": False, "bins": 80, "element": "step"}
    seaborn.histplot(scores, x="score", **colours, **shares, ax=left)
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


def det_curve(axes: plt.Axes, scores, targets, label: str | None, colour: str, line: str) -> None:
    """One system on `det_axes`, with a mark at the least cost of each of `PRIORS`."""
    rates = det_points(scores, targets)
    deviates = ndtri(np.clip(rates, LEAST_RATE, 1 - LEAST_RATE))
    axes.plot(*deviates.T, line, color=colour, label=label)
    for prior, mark in PRIORS.items():
        least = np.argmin(rates @ [1 - prior, prior])
        axes.plot(*deviates[least], mark, color=colour, markersize=4)


def det_points(scores, targets) -> np.ndarray:
    """False-alarm and miss rates (P, 2); points closer to each other than a pixel are left out."""
    rates = np.stack(operating_points(scores, targets)[:2], axis=1)
    deviates = np.round(ndtri(np.clip(rates, LEAST_RATE, 1 - LEAST_RATE)), 2)
    return rates[np.sort(np.unique(deviates, axis=0, return_index=True)[1])]


def batch_similarities(similarities: Mapping[str, np.ndarray], n_utterances: int) -> Figure:
    """Heat maps (N * M, N * M) side by side on one scale; lines separate the speakers.

    Parameters
    ----------
    similarities : mapping
        Title -> similarity of each crop to each other.
    n_utterances : int
        M, crops of each speaker.
    """
    size = (5 * len(similarities), 4.4)
    figure, panels = plt.subplots(1, len(similarities), figsize=size)
    every = np.stack(list(similarities.values()))
    for axes, (title, matrix) in zip(panels, similarities.items(), strict=True):
        scale = {"vmin": every.min(), "vmax": every.max(), "cmap": "viridis", "square": True}
        seaborn.heatmap(matrix, **scale, xticklabels=False, yticklabels=False, ax=axes)
        edges = np.arange(0, len(matrix) + 1, n_utterances)
        axes.hlines(edges, 0, len(matrix), color="white", linewidth=0.4)
        axes.vlines(edges, 0, len(matrix), color="white", linewidth=0.4)
        axes.set(title=title, xlabel="crops by speaker", ylabel="crops by speaker")
    return figure
