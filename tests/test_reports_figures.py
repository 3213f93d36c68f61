"""Figures of scores and error rates show the numbers they are given, where they belong."""

from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from scipy.special import ndtri

from studylib.losses import LOSSES
from studylib.reports.figures.batch_size import eer_by_size
from studylib.reports.figures.results import (
    det_overlay,
    difference_matrix,
    eer_with_intervals,
    margin_by_scale,
    verdict_forest,
)
from studylib.reports.figures.runs import scores_and_det, training_curve
from studylib.reports.figures.style import COLOURS, NO_LOSS, look, run_title, save_figure
from studylib.reports.figures.trunks import eer_by_multiply_adds

matplotlib.use("Agg")
RATES = {"rate": 0.05, "low": 0.04, "high": 0.07}
# Deuteranopia on linear RGB: Machado, Oliveira, Fernandes 2009, table 1. Then CIE 1931 (sRGB, D65).
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def gaussian():
    """Scores whose DET curve is the line miss deviate = - 2 - false-alarm deviate."""
    quantiles = ndtri((np.arange(20_000) + 0.5) / 20_000)
    scores = np.concatenate([quantiles + 2, quantiles])
    return pd.DataFrame({"score": scores, "target": np.arange(40_000) < 20_000})


def lab(colour: str, sight) -> np.ndarray:
    """CIELAB of a colour as seen through a matrix on linear RGB."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.array(XYZ) @ np.clip(sight @ linear, 0, 1) / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_are_far_apart_also_for_a_deuteranope_and_no_two_losses_look_alike():
    for sight in (np.eye(3), np.array(DEUTERANOPIA)):
        seen = [lab(colour, sight) for colour in (*COLOURS, NO_LOSS)]
        assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 18
    looks = [look(loss) for loss in (*LOSSES, None)]
    assert len({(each.colour, each.line) for each in looks}) == len(looks)
    assert run_title("am_softmax_m0.2_s15", "am_softmax") == "AM-softmax m0.2 s15"
    assert run_title("logmel_whitened", None) == "Logmel whitened"


def test_normal_scores_are_a_straight_line_on_the_axes_of_the_det_curve(gaussian):
    targets = gaussian["target"].to_numpy()
    figure = det_overlay({"softmax": ("softmax", gaussian["score"].to_numpy())}, targets)
    (axes,) = figure.axes
    (curve,) = [line for line in axes.lines if line.get_label() == "Softmax"]
    alarms, misses = curve.get_data()
    inside = (alarms > ndtri(0.001)) & (misses > ndtri(0.001))
    # The deviates of misses and false alarms add up to minus the distance of the two humps.
    np.testing.assert_allclose((alarms + misses)[inside], -2, atol=0.02)
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    assert {tick: label.get_text() for tick, label in ticks}[ndtri(0.05)] == "5"
    # Where densities are in the ratio 99: log-ratio 2 s - 2 = log 99 decides at least cost.
    threshold = 1 + np.log(99) / 2
    (circle,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(circle.get_xydata(), [[-threshold, threshold - 2]], atol=0.05)


def test_a_det_figure_names_eight_curves_in_order_and_tells_runs_of_one_loss_apart(gaussian):
    targets, scores = gaussian["target"].to_numpy()[::40], gaussian["score"].to_numpy()[::40]
    systems = {f"ge2e_{number}": ("ge2e", scores) for number in range(10)}
    axes = det_overlay(systems, targets).axes[0]
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == [f"GE2E {number}" for number in range(8)]
    drawn = [line for line in axes.lines if line.get_label() in names]
    assert len({line.get_color() for line in drawn}) == len(COLOURS)
    assert sum(line.get_color() == "darkgrey" for line in axes.lines) == 2


def test_the_histogram_marks_the_threshold_and_counts_both_kinds(gaussian):
    left = scores_and_det(gaussian, threshold=1.0, eer=0.1587).axes[0]
    assert any(list(line.get_xdata()) == [1.0, 1.0] for line in left.lines)
    labels = {text.get_text() for text in left.get_legend().get_texts()}
    assert labels == {"target (20,000)", "nontarget (20,000)"}
    assert left.get_title() == "EER 15.87 %"


def test_a_curve_has_a_panel_for_what_changes():
    curve = pd.DataFrame({"crops": [1000, 2000], "step": [5, 9], "loss": [3.0, 2.0]})
    assert len(training_curve(curve, run="r", loss="triplet").axes) == 1
    measured = curve.assign(margin=[0.1, 0.3], dev_eer=[np.nan, 0.04])
    _, margin, development = training_curve(measured, run="r", loss="triplet").axes
    np.testing.assert_allclose(margin.lines[0].get_xydata(), [[1, 0.1], [2, 0.3]])
    np.testing.assert_allclose(development.lines[0].get_xydata(), [[2, 4]])
    assert not training_curve(curve.iloc[:0], run="untrained", loss="triplet").axes


def test_a_heat_map_has_numbers_in_order_and_schedules_after_them():
    margins = ["0.1 to 0.3", 0.3, 0.1]
    rows = [("am_softmax", m, s) for m in margins for s in (30.0, 15.0)]
    table = pd.DataFrame(rows, columns=["loss", "margin", "scale"]).assign(**RATES)
    table["rate"] += 0.001 * np.arange(6)
    panel = margin_by_scale(table).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["0.1", "0.3", "0.1 to 0.3"]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["15", "30"]
    shown = {text.get_position(): text.get_text() for text in panel.texts}
    assert shown[0.5, 0.5] == "5.50\n4.00-7.00"  # margin 0.1, scale 15: the last row


def test_an_interval_and_every_seed_stand_in_the_row_of_their_run():
    table = pd.DataFrame([RATES, {"rate": 0.3, "low": 0.2, "high": 0.4}])
    table = table.set_axis(["softmax", "untrained"]).assign(loss=["softmax", None])
    seeds = pd.DataFrame({"run": ["softmax", "softmax", "untrained"], "eer": [0.045, 0.055, 0.3]})
    axes = eer_with_intervals(table, seeds, list_name="test").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Softmax", "Untrained"]
    (best, _) = axes.containers
    np.testing.assert_allclose(best[0].get_xydata(), [[5, 0]])
    np.testing.assert_allclose(best[2][0].get_segments()[0], [[4, 0], [7, 0]])
    np.testing.assert_allclose(axes.collections[-1].get_offsets(), [[4.5, 0.3], [5.5, 0.3]])


def test_the_matrix_is_one_triangle_of_ratios_worse_over_better_with_intervals():
    tests = pd.DataFrame([["a", "b", -0.5, -0.6, -0.2, 0.01], ["a", "c", -0.8, -0.9, 0.0, 0.06]])
    tests.loc[2] = ["b", "c", -0.6, -0.75, 0.25, 0.5]
    tests.columns = ["first", "second", "difference", "low", "high", "p_holm"]
    axes = difference_matrix(tests, {"a": None, "b": None, "c": None}).axes[0]
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {
        (0.5, 0.5): "2.00*\n1.25-2.50",
        (0.5, 1.5): "5.00\n1.00-10.00",
        (1.5, 1.5): "2.50\n0.80-4.00",
    }
    cells = axes.collections[0]
    assert cells.norm.vmin == 1
    assert cells.norm.vmax == pytest.approx(5)  # nothing is clipped


def test_a_conclusion_s_claimed_side_is_shaded_and_what_goes_on_has_an_arrow():
    rows = [("B1", "supported", -0.2, -0.3, -0.1, 0.1, "below")]
    rows += [("B2", "undecided", 1.5, 0.1, 4.0, 0.1, "above"), ("B3", "not tested here")]
    columns = ["id", "verdict", "effect", "low", "high", "claimed", "side"]
    axes = verdict_forest(pd.DataFrame(rows, columns=columns).assign(claim="C.")).axes[0]
    shaded = [sorted([bar.get_x(), bar.get_x() + bar.get_width()]) for bar in axes.patches]
    np.testing.assert_allclose(shaded, [[-100, 10], [10, 200]])
    assert [line.get_ydata()[0] for line in axes.lines if line.get_marker() == ">"] == [1]
    assert [text.get_text() for text in axes.texts] == ["supported", "undecided", "not tested here"]


def test_each_comparison_of_sizes_has_a_panel_and_each_loss_a_line_with_intervals():
    rates = pd.DataFrame(
        [
            ("equal_crops", "ge2e", 20, 50, 1000),
            ("equal_crops", "ge2e", 80, 13, 1040),
            ("equal_crops", "triplet", 20, 50, 1000),
            ("equal_steps", "ge2e", 80, 50, 4000),
        ],
        columns=["comparison", "loss", "size", "steps", "crops"],
    ).assign(**RATES)
    crops, steps = eer_by_size(rates, list_name="test").axes
    assert [label.get_text() for label in crops.get_xticklabels()] == ["20\n50", "80\n13"]
    assert [label.get_text() for label in steps.get_xticklabels()] == ["80\n4,000"]
    assert [text.get_text() for text in steps.get_legend().get_texts()] == ["GE2E", "Triplet"]
    np.testing.assert_allclose(crops.containers[0][2][0].get_segments()[0][:, 1], [4, 7])
    assert eer_by_size(rates.iloc[:0], list_name="test") is None


def test_each_trunk_is_a_mark_at_its_cost_and_error_named_in_the_legend(tmp_path):
    sizes = {"parameters": [1_437_078, 250_000], "multiply_adds": [450_000_000, 7_000_000]}
    table = pd.DataFrame({"run": ["ge2e_fast", "ge2e"], "loss": "ge2e", **sizes})
    table = table.assign(**RATES, receptive_field=[0.9, 0.1])
    once, twice = (eer_by_multiply_adds(table, list_name="test") for _ in range(2))
    (axes,) = once.axes
    assert [bar[0].get_xydata().tolist()[0] for bar in axes.containers] == [[7, 5], [450, 5]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "GE2E: 0.2 M, 0.10 s", "GE2E fast: 1.4 M, 0.90 s",
    ]  # fmt: skip
    save_figure(once, tmp_path, "once")
    save_figure(twice, tmp_path, "twice")
    for kind in ("png", "pdf"):
        assert (tmp_path / f"once.{kind}").read_bytes() == (tmp_path / f"twice.{kind}").read_bytes()
