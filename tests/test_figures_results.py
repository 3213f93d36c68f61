"""Figures of scores and error rates show the numbers they are given, where they belong."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy.special import ndtri

from studylib.reports import figures

matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def gaussian():
    """Scores whose DET curve is the line miss deviate = 2 - false-alarm deviate."""
    quantiles = ndtri((np.arange(20_000) + 0.5) / 20_000)
    scores = np.concatenate([quantiles + 2, quantiles])
    return pd.DataFrame({"score": scores, "target": np.arange(40_000) < 20_000})


def test_normal_scores_are_a_straight_line_on_the_axes_of_the_det_curve(gaussian):
    targets = gaussian["target"].to_numpy()
    figure = figures.det_overlay({"run": ("softmax", gaussian["score"].to_numpy())}, targets)
    (axes,) = figure.axes
    (curve,) = [line for line in axes.lines if line.get_label() == "run"]
    alarms, misses = curve.get_data()
    inside = (alarms > ndtri(0.001)) & (misses > ndtri(0.001))
    # The deviates of misses and false alarms add up to minus the distance of the two humps.
    np.testing.assert_allclose((alarms + misses)[inside], -2, atol=0.02)
    shown = dict(
        zip(axes.get_xticks(), [t.get_text() for t in axes.get_xticklabels()], strict=True)
    )
    assert shown[ndtri(0.05)] == "5"


def test_the_histogram_marks_the_threshold_and_counts_both_kinds(gaussian):
    figure = figures.scores_and_det(gaussian, threshold=1.0, eer=0.1587)
    left = figure.axes[0]
    (threshold,) = [line for line in left.lines if line.get_label().startswith("EER threshold")]
    assert list(threshold.get_xdata()) == [1.0, 1.0]
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert "different speakers (20,000)" in labels
    assert "same (20,000)" in labels
    assert left.get_title() == "EER 15.87 %"


def test_the_heatmap_says_each_cells_error_rate_in_its_row_and_column():
    table = pd.DataFrame(
        [("am_softmax", str(m), s, m * s / 100) for m in (0.1, 0.2) for s in (15, 30)],
        columns=["loss", "margin", "scale", "eer"],
    )
    panel = figures.margin_by_scale(table).axes[0]
    shown = {
        text.get_position(): text.get_text() for text in panel.texts
    }  # (column, row) -> per cent
    assert shown == {(0, 0): "1.50", (1, 0): "3.00", (0, 1): "3.00", (1, 1): "6.00"}
    assert [label.get_text() for label in panel.get_xticklabels()] == ["15", "30"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["0.1", "0.2"]


def test_an_interval_and_every_seed_stand_in_the_row_of_their_run():
    table = pd.DataFrame(
        {"loss": ["softmax", None], "rate": [0.05, 0.3], "low": [0.04, 0.2], "high": [0.07, 0.4]},
        index=["softmax", "untrained"],
    )
    seeds = pd.DataFrame({"run": ["softmax", "softmax", "untrained"], "eer": [0.045, 0.055, 0.3]})
    axes = figures.eer_with_intervals(table, seeds, list_name="test").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["untrained", "softmax"]
    interval, mean, dots, *_ = [line for line in axes.lines if round(line.get_ydata()[0]) == 1]
    np.testing.assert_allclose(interval.get_xdata(), [4, 7])
    np.testing.assert_allclose(mean.get_xdata(), [5])
    np.testing.assert_allclose(dots.get_xdata(), [4.5, 5.5])


def test_the_matrix_of_differences_mirrors_ratios_and_stars_what_differs():
    tests = pd.DataFrame({"first": ["a"], "second": ["b"], "difference": [-0.5], "p_holm": [0.01]})
    axes = figures.difference_matrix(tests, ["a", "b"]).axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(1, 0): "-50*", (0, 1): "+100*"}
