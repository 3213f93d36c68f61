"""The figure of trunks."""

import matplotlib
import numpy as np
import pandas as pd

from studylib.reports import figures

matplotlib.use("Agg")


def test_each_trunk_is_a_point_at_its_cost_and_error_with_its_name_beside_it():
    table = pd.DataFrame(
        {
            "loss": ["ge2e", "ge2e"],
            "rate": [0.05, 0.02],
            "low": [0.04, 0.01],
            "high": [0.07, 0.03],
            "parameters": [250_000, 1_437_078],
            "multiply_adds": [7_000_000, 450_000_000],
            "receptive_field": [0.1, 0.9],
        },
        index=["compact_tdnn", "fast_resnet34"],
    )
    figure = figures.eer_by_multiply_adds(table, list_name="test")
    axes = figure.axes[0]
    points = axes.collections[-1].get_offsets()
    np.testing.assert_allclose(points, [[7, 5], [450, 2]])
    assert [text.get_text() for text in axes.texts] == [
        "fast_resnet34  1.4 M, 0.90 s",
        "compact_tdnn  0.2 M, 0.10 s",
    ]
    matplotlib.pyplot.close(figure)
