"""Figures of corpora and embeddings: every axis is labelled, whatever is known or missing."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from studylib.reports import figures

matplotlib.use("Agg")
BASIC = ["id", "speaker", "session", "split", "start", "length"]


def shown(figure):
    """The panels of a figure that are in use."""
    return [axes for axes in figure.axes if axes.axison]


def assert_labelled(figure):
    figure.canvas.draw()
    for axes in shown(figure):
        assert axes.get_xlabel() or axes.get_ylabel()
    matplotlib.pyplot.close(figure)


def test_voices_and_sessions_show_what_is_known(tiny_corpus):
    table = tiny_corpus.utterances
    voices = figures.voices(table)
    assert [axes.get_xlabel() for axes in shown(voices)] == [
        "median F0 (Hz)",
        "speaking rate (words a minute)",
        "speakers",
    ]
    assert_labelled(voices)
    sessions = figures.sessions(table)
    assert len(shown(sessions)) == 4
    assert_labelled(sessions)


def test_a_corpus_that_knows_nothing_has_lengths_and_no_voices(tiny_corpus):
    table = tiny_corpus.utterances[BASIC]
    assert figures.voices(table) is None
    sessions = figures.sessions(table)
    assert [axes.get_xlabel() for axes in shown(sessions)] == ["length of an utterance (s)"]
    assert_labelled(sessions)


def test_bars_count_the_speakers_of_each_sex_and_of_none(tiny_corpus):
    table = tiny_corpus.utterances[BASIC].assign(sex=tiny_corpus.utterances["sex"])
    table.loc[table["speaker"] == "test-0000", "sex"] = None
    figure = figures.voices(table.assign(nationality="UK"))
    widths = [bar.get_width() for bar in shown(figure)[0].patches]
    assert sorted(widths) == [1, 13, 14]
    assert_labelled(figure)


def test_spectrograms_find_a_tone_at_its_frequency():
    tone = np.sin(2 * np.pi * 3000 * np.arange(16_000) / 16_000)
    figure = figures.spectrograms({"tone": tone})
    image = shown(figure)[0].images[0]
    loudest = np.asarray(image.get_array()).mean(axis=1).argmax()
    low, high = image.get_extent()[2:]
    assert low + (loudest + 0.5) * (high - low) / 128 == pytest.approx(3.0, abs=0.0625)
    assert_labelled(figure)


def test_twelve_runs_are_drawn_and_named():
    rng = np.random.default_rng(0)
    runs = [f"run_{number}" for number in range(12)]
    table = pd.DataFrame({"run": runs, "loss": [None, "softmax", "triplet"] * 4, "eer": 0.1})
    for name in ("alignment", "uniformity", "fisher_ratio", "effective_rank", "d_prime"):
        table[name] = rng.uniform(0.1, 1, 12)
    points = pd.DataFrame({"run": np.repeat(runs, 6), "speaker": list("aabbcc") * 12})
    points = points.assign(x=rng.normal(size=72), y=rng.normal(size=72))
    densities = pd.DataFrame(
        {"run": np.repeat(runs, 5), "cosine": list(range(5)) * 12, "within": 1.0, "between": 2.0}
    )
    for figure in (
        figures.speaker_maps(points, table),
        figures.cosine_histograms(densities, table),
    ):
        assert [axes.get_title().split()[0] for axes in shown(figure)] == runs
        assert_labelled(figure)
    planes = figures.geometry_planes(table)
    for axes in shown(planes):
        assert {text.get_text() for text in axes.texts} == set(runs)
        places = sorted(text.xyann[1] for text in axes.texts)
        assert min(np.diff(places)) > 0.05
    assert_labelled(planes)


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
    assert_labelled(figure)
