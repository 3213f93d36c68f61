"""Figures of scores and error rates show the numbers they are given, where they belong."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri

from studylib.losses import LOSSES
from studylib.reports.figures import results as figures
from studylib.reports.figures.runs import det_points, scores_and_det, training_curve
from studylib.reports.figures.style import COLOURS, look, run_title, save_figure

matplotlib.use("Agg")
RATES = {"rate": 0.05, "low": 0.04, "high": 0.07}


@pytest.fixture(scope="module")
def gaussian():
    """A DET curve (%) that is the line miss deviate = - 2 - false-alarm deviate."""
    quantiles = ndtri((np.arange(20_000) + 0.5) / 20_000)
    points = det_points(np.concatenate([quantiles + 2, quantiles]), np.arange(40_000) < 20_000)
    return pd.DataFrame(100 * points, columns=["false_alarms", "misses"])


def test_no_two_losses_look_alike_and_each_has_its_name_in_print():
    looks = [look(loss) for loss in (*LOSSES, None)]
    assert len({(each.colour, each.line) for each in looks}) == len(looks)
    assert run_title("am_softmax_m0.2_s15", "am_softmax") == "AM-softmax m0.2 s15"
    assert run_title("logmel_whitened", None) == "Logmel whitened"


def test_normal_scores_are_a_straight_line_on_the_axes_of_the_det_curve(gaussian):
    (axes,) = figures.det_overlay(gaussian.assign(run="Softmax", loss="softmax")).axes
    (curve,) = [line for line in axes.lines if line.get_label() == "Softmax"]
    alarms, misses = curve.get_data()
    inside = (alarms > ndtri(0.001)) & (misses > ndtri(0.001))
    # The deviates of misses and false alarms add up to minus the distance of the two humps.
    np.testing.assert_allclose((alarms + misses)[inside], -2, atol=0.02)
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert {tick: label.get_text() for tick, label in ticks}[ndtri(0.05)] == "5%"
    # Where densities are in the ratio 99: log-ratio 2 s - 2 = log 99 decides at least cost.
    threshold = 1 + np.log(99) / 2
    (circle,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(circle.get_xydata(), [[-threshold, threshold - 2]], atol=0.05)


def test_a_det_figure_names_eight_curves_in_order_and_tells_runs_of_one_loss_apart(gaussian):
    curves = [gaussian.assign(run=f"GE2E {number}", loss="ge2e") for number in range(10)]
    axes = figures.det_overlay(pd.concat(curves)).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == [f"GE2E {number}" for number in range(8)]
    drawn = [line for line in axes.lines if line.get_label() in names]
    assert len({line.get_color() for line in drawn}) == len(COLOURS)
    curves = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert sum(line.get_color() == "darkgrey" for line in curves) == 2


def test_the_histogram_marks_the_threshold():
    scores = pd.DataFrame({"score": [0.1, 0.9, 1.1, 2.0], "target": [False, False, True, True]})
    left = scores_and_det(scores, threshold=1.0, eer=0.1587).axes[0]
    assert any(list(line.get_xdata()) == [1.0, 1.0] for line in left.lines)
    assert left.get_title() == "EER 15.87 %"


def test_a_curve_has_a_panel_for_what_changes():
    curve = pd.DataFrame({"crops": [1000, 2000], "step": [5, 9], "loss": [3.0, 2.0]})
    measured = curve.assign(margin=[0.1, 0.3], dev_eer=[np.nan, 0.04])
    _, margin, development = training_curve(measured, run="r", loss="triplet").axes
    np.testing.assert_allclose(margin.lines[0].get_xydata(), [[1000, 0.1], [2000, 0.3]])
    np.testing.assert_allclose(development.lines[0].get_xydata(), [[2000, 4]])
    assert not training_curve(curve.iloc[:0], run="untrained", loss="triplet").axes


def test_an_interval_and_every_seed_stand_in_the_row_of_their_run():
    table = pd.DataFrame([RATES, {"rate": 0.3, "low": 0.2, "high": 0.4}])
    table = table.set_axis(["softmax", "untrained"]).assign(loss=["softmax", None])
    seeds = pd.DataFrame({"run": ["softmax", "softmax", "untrained"], "eer": [0.045, 0.055, 0.3]})
    axes = figures.eer_with_intervals(table, seeds, list_name="test").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Softmax", "Untrained"]
    (best, _) = axes.containers
    np.testing.assert_allclose(best[0].get_xydata(), [[5, 0]])
    np.testing.assert_allclose(best[2][0].get_segments()[0], [[4, 0], [7, 0]])
    dots = [[4.5, 0.3], [5.5, 0.3], [30, 1.3]]
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), dots)


def test_each_level_has_a_panel_in_the_order_of_the_first():
    runs = pd.DataFrame({"run": ["softmax", "log", "ge2e"], "loss": ["softmax", None, "ge2e"]})
    runs = runs.assign(factor="sex", rate=[0.1, 0.2, 0.05], low=0.01, high=0.3)
    levels = [runs.assign(level=level) for level in ("all", "same sex")]
    figure = figures.rates_by_level(pd.concat(levels))
    assert [axes.get_title() for axes in figure.axes] == ["all", "same sex"]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["GE2E", "Softmax", "Log"]


def test_the_matrix_is_one_triangle_of_ratios_worse_over_better_with_intervals():
    tests = pd.DataFrame([["a", "b", -0.5, -0.6, -0.2, 0.01], ["a", "c", -0.8, -0.9, 0.0, 0.06]])
    tests.loc[2] = ["b", "c", -0.6, -0.75, 0.25, 0.5]
    tests.columns = ["first", "second", "difference", "low", "high", "p_holm"]
    axes = figures.difference_matrix(tests, {"a": None, "b": None, "c": None}).axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    expected = {(0.5, 0.5): "2.00*\n1.25-2.50", (0.5, 1.5): "5.00\n1.00-10.00"}
    assert shown == expected | {(1.5, 1.5): "2.50\n0.80-4.00"}
    cells = axes.collections[0]
    assert cells.norm.vmin == 0
    assert cells.norm.vmax == pytest.approx(np.log2(5))  # nothing is clipped


def test_a_conclusion_s_claimed_side_is_shaded():
    rows = [("B1", "supported", -0.2, -0.3, -0.1, 0.1, "below")]
    rows += [("B2", "undecided", 1.5, 0.1, 4.0, 0.1, "above"), ("B3", "not tested here")]
    columns = ["id", "verdict", "effect", "low", "high", "claimed", "side"]
    table = pd.DataFrame(rows, columns=columns).assign(claim="C.", study="s")
    axes = figures.verdict_grid(table).axes[0]
    shaded = [sorted([bar.get_x(), bar.get_x() + bar.get_width()]) for bar in axes.patches]
    np.testing.assert_allclose(shaded[:2], [[-100, 10], [10, 200]])
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[-30, 0], [-10, 0]])
    words = [text.get_text().split("\n")[0] for text in axes.texts]
    assert words == ["supported", "undecided", "not tested here"]


def test_each_comparison_of_sizes_has_a_panel_and_each_loss_a_line_with_intervals():
    rows = [("equal_crops", "ge2e", 20), ("equal_crops", "triplet", 20)]
    rows += [("equal_crops", "ge2e", 80), ("equal_steps", "ge2e", 80)]
    rates = pd.DataFrame(rows, columns=["comparison", "loss", "size"])
    crops, steps = figures.eer_by_size(rates.assign(**RATES), list_name="test").axes
    assert [label.get_text() for label in crops.get_xticklabels()] == ["20", "80"]
    assert [text.get_text() for text in steps.get_legend().get_texts()] == ["GE2E", "Triplet"]
    np.testing.assert_allclose(crops.containers[0][0].get_xydata(), [[20, 5], [80, 5]])
    np.testing.assert_allclose(crops.containers[0][2][0].get_segments()[0][:, 1], [4, 7])
    assert figures.eer_by_size(rates.iloc[:0], list_name="test") is None


def test_trunks_are_rows_by_cost_in_a_panel_for_each_comparison_that_there_is():
    rows = [("equal", "wide", "ge2e", 9), ("equal", "wide", "triplet", 9)]
    rows += [("equal", "narrow", "ge2e", 2), ("other", "wide", "triplet", 9)]
    rates = pd.DataFrame(rows, columns=["comparison", "trunk", "loss", "size"]).assign(**RATES)
    titles = {"equal": "equal crops", "other": "other crops", "none": "no run"}
    equal, other = figures.eer_by_trunk(rates, titles, list_name="test").axes
    assert [axes.get_title() for axes in (equal, other)] == ["Equal crops", "Other crops"]
    assert [label.get_text() for label in equal.get_yticklabels()] == ["narrow", "wide"]
    np.testing.assert_allclose(equal.containers[0][0].get_xydata(), [[5, 1], [5, 0]])  # GE2E
    assert [text.get_text() for text in other.get_legend().get_texts()] == ["GE2E", "Triplet"]


def test_margins_are_lines_over_the_scale_and_files_have_the_same_bytes_each_time(tmp_path):
    rates = pd.DataFrame({"comparison": "am_softmax", "margin": ["0.3", "0.1"], "size": [15, 30]})
    for name in ("once", "twice"):
        figure = figures.eer_by_size(rates.assign(**RATES), list_name="test", line="margin")
        save_figure(figure, tmp_path, name)
    (axes,) = figure.axes
    assert (axes.get_title(), axes.get_xlabel()) == ("AM-softmax", "scale, logarithmic")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0.1", "0.3"]
    for kind in ("png", "pdf"):
        assert (tmp_path / f"once.{kind}").read_bytes() == (tmp_path / f"twice.{kind}").read_bytes()
