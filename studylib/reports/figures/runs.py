"""Figures of one run: its curve, its scores, its errors."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from studylib.reports.figures.style import NONTARGET, TARGET, colour


def training_curve(curve: pd.DataFrame, *, run: str, loss: str) -> Figure:
    """Loss and learning rate against crops seen, with scheduled values and development EERs."""
    if curve.empty:
        figure, axes = plt.subplots(figsize=(7, 1), layout="constrained")
        axes.text(0.5, 0.5, f"{run}: not trained, no curve", ha="center", va="center")
        axes.set_axis_off()
        return figure
    known = ("crops", "step", "epoch", "loss", "learning_rate", "seconds", "dev_eer")
    scheduled = [name for name in curve.columns if name not in known]
    has_eer = "dev_eer" in curve
    figure, panels = plt.subplots(
        1, 2 + has_eer, figsize=(4 * (2 + has_eer), 3), squeeze=False, layout="constrained"
    )
    crops = curve["crops"] / 1000
    left, middle = panels[0, :2]
    left.plot(crops, curve["loss"], color=colour(loss))
    left.set(title=run, ylabel="training loss")
    middle.plot(
        crops,
        curve["learning_rate"] / curve["learning_rate"].max(),
        color="black",
        label=f"learning rate (1 = {curve['learning_rate'].max():.3g})",
    )
    for name, style in zip(scheduled, ("--", ":", "-."), strict=False):
        largest = curve[name].abs().max() or 1.0
        middle.plot(
            crops,
            curve[name] / largest,
            style,
            color=colour(loss),
            label=f"{name} (1 = {largest:.3g})",
        )
    middle.set(title="schedules", ylabel="share of the largest value", ylim=(-0.05, 1.3))
    middle.legend(loc="upper right", fontsize=8)
    if has_eer:
        taken = curve.dropna(subset="dev_eer")
        panels[0, 2].plot(taken["crops"] / 1000, 100 * taken["dev_eer"], "o-", color=colour(loss))
        panels[0, 2].set(
            title="development speakers", ylabel="EER (%), one 4-s crop", ylim=(0, None)
        )
    for panel in panels[0]:
        panel.set_xlabel("training crops seen (thousands)")
    return figure


def scores_and_det(scores: pd.DataFrame, *, threshold: float, eer: float) -> Figure:
    """Histograms of target and non-target scores, and the detection error trade-off."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    bins = np.linspace(scores["score"].min(), scores["score"].max(), 80)
    for name, target, fill in (("different speakers", False, NONTARGET), ("same", True, TARGET)):
        values = scores.loc[scores["target"] == target, "score"]
        left.hist(
            values, bins, density=True, alpha=0.6, color=fill, label=f"{name} ({len(values):,})"
        )
    left.axvline(threshold, color="black", linewidth=1, label=f"EER threshold {threshold:.3f}")
    left.set(xlabel="score", ylabel="density", title=f"EER {100 * eer:.2f} %")
    left.legend(fontsize=8)
    det_axes(right)
    det_line(right, scores["score"].to_numpy(), scores["target"].to_numpy(), "black", "-", None)
    return figure


DET_TICKS = np.array([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4])


def det_axes(axes: plt.Axes) -> None:
    """Normal-deviate axes from 0.1 to 50 %, in per cent, with the line of equal errors."""
    from scipy.special import ndtri

    ticks = ndtri(DET_TICKS)
    labels = [f"{100 * tick:g}" for tick in DET_TICKS]
    low, high = ndtri(0.0008), ndtri(0.5)
    axes.plot([low, high], [low, high], color="lightgrey", linewidth=1, zorder=0)
    axes.set(
        xlim=(low, high),
        ylim=(low, high),
        xlabel="false alarms (%)",
        ylabel="misses (%)",
        title="detection error trade-off",
    )
    axes.set_xticks(ticks, labels)
    axes.set_yticks(ticks, labels)
    axes.set_aspect("equal")
    axes.grid(alpha=0.3)


def det_line(
    axes: plt.Axes,
    scores: np.ndarray,
    targets: np.ndarray,
    line: str,
    style: str,
    label: str | None,
) -> None:
    """One system's curve on `det_axes`."""
    from scipy.special import ndtri

    from studylib.statistics.error_rates import operating_points

    points = operating_points(scores, targets)
    clip = 1e-5
    axes.plot(
        ndtri(np.clip(points.false_alarm, clip, 1 - clip)),
        ndtri(np.clip(points.miss, clip, 1 - clip)),
        style,
        color=line,
        label=label,
    )
