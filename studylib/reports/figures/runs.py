"""Figures of one run: its curve, its scores, its errors, a batch under its network."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from scipy.special import ndtri
from sklearn.metrics import DetCurveDisplay

from studylib.reports.figures.style import NONTARGET, TARGET, Look, look
from studylib.statistics.error_rates import operating_points

DET_ENDS = ndtri([0.0008, 0.5])
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
    figure, looks = plt.figure(figsize=(3 * len(curve.columns) + 1, 2.8)), look(loss)
    for place, name in enumerate(curve, start=1):
        axes = figure.add_subplot(1, len(curve.columns), place, ylabel=name)
        line = {"color": looks.colour, "style": f"{looks.mark}-", "ms": 3}
        curve[name].dropna().plot(ax=axes, xlabel="crops seen", **line)
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
    rates = det_points(scores["score"], scores["target"])
    det_curve(right, rates, Look(None, "black", "", "-"))
    right.set_title("Detection error trade-off")
    return figure


def det_curve(axes: plt.Axes, rates: np.ndarray, own: Look) -> None:
    """The `det_points` of a system on normal-deviate axes; marks at the least costs of `PRIORS`."""
    curve = DetCurveDisplay(fpr=rates[:, 0], fnr=rates[:, 1])
    curve.plot(axes, name=own.title, color=own.colour, linestyle=own.line)
    for prior, mark in PRIORS.items():
        least = ndtri(rates[np.argmin(rates @ [1 - prior, prior])])
        axes.plot(*least, mark, color=own.colour, markersize=4)
    axes.set(xlim=DET_ENDS, ylim=DET_ENDS, aspect="equal", xlabel="false alarms", ylabel="misses")


def det_points(scores, targets) -> np.ndarray:
    """False-alarm and miss rates (P, 2); points closer to each other than a pixel are left out."""
    rates = np.stack(operating_points(scores, targets)[:2], axis=1)
    deviates = np.round(ndtri(np.clip(rates, LEAST_RATE, 1 - LEAST_RATE)), 2)
    return rates[np.sort(np.unique(deviates, axis=0, return_index=True)[1])]


def batch_similarities(similarities: Mapping[str, np.ndarray], n_utterances: int) -> Figure:
    """Heat maps (N * M, N * M) side by side on one scale; a number at each speaker's first crop.

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
    looks = {"vmin": every.min(), "vmax": every.max(), "cmap": "viridis", "square": True}
    looks |= {"xticklabels": n_utterances, "yticklabels": n_utterances}
    for axes, (title, matrix) in zip(panels, similarities.items(), strict=True):
        seaborn.heatmap(matrix, **looks, ax=axes)
        axes.set(title=title, xlabel="crops by speaker", ylabel="crops by speaker")
    return figure
