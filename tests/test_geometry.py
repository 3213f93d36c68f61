"""Measures of the embedding space against plain loops and closed forms."""

from itertools import combinations

import numpy as np
import pytest

from studylib.errors import StudyError
from studylib.reports.geometry import (
    cosine_histogram,
    d_prime,
    effective_rank,
    fisher_ratio,
    geometry,
    pair_cosines,
)


@pytest.fixture(scope="module")
def sample():
    """Unit vectors (30, 8) of six speakers with one to nine utterances, in mixed order."""
    rng = np.random.default_rng(0)
    speakers = rng.permutation(np.repeat(list("abcdef"), (1, 2, 4, 6, 8, 9)))
    centres = {name: rng.normal(size=8) for name in "abcdef"}
    vectors = np.stack([centres[name] for name in speakers]) + rng.normal(size=(30, 8))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), speakers


def test_measures_of_pairs_equal_loops_over_pairs(sample):
    vectors, speakers = sample
    within, between, closeness, potentials = [], [], [], []
    for i, j in combinations(range(len(vectors)), 2):
        cosine = float(vectors[i] @ vectors[j])
        square = sum((a - b) ** 2 for a, b in zip(vectors[i], vectors[j], strict=True))
        potentials.append(np.exp(-2 * square))
        if speakers[i] == speakers[j]:
            within.append(cosine)
            closeness.append(square)
        else:
            between.append(cosine)
    measured = geometry(vectors, speakers)
    expected = {
        "alignment": np.mean(closeness),
        "uniformity": np.log(np.mean(potentials)),
        "within_mean": np.mean(within),
        "within_sd": np.std(within),
        "between_mean": np.mean(between),
        "between_sd": np.std(between),
    }
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, rel=1e-10), name


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_alignment_and_uniformity_are_perfect_on_a_simplex_of_points():
    # Four speakers at the corners of a tetrahedron: all distances between them are 8/3 squared.
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    measured = geometry(np.repeat(corners, 2, axis=0), np.repeat(np.arange(4), 2))
    assert measured["alignment"] == pytest.approx(0, abs=1e-12)
    pairs_within, pairs = 4, 28
    expected = np.log((pairs_within + (pairs - pairs_within) * np.exp(-2 * 8 / 3)) / pairs)
    assert measured["uniformity"] == pytest.approx(expected)
    assert measured["between_mean"] == pytest.approx(-1 / 3)


def test_d_prime_of_normal_scores_is_their_distance_in_standard_deviations():
    rng = np.random.default_rng(0)
    within, between = rng.normal(3, 1, 200_000), rng.normal(1, 1, 200_000)
    assert d_prime(within, between) == pytest.approx(2, abs=0.02)


def test_fisher_ratio_splits_the_total_variance(sample):
    vectors, speakers = sample
    around = sum(
        np.square(vectors[speakers == name] - vectors[speakers == name].mean(axis=0)).sum()
        for name in "abcdef"
    )
    total = np.square(vectors - vectors.mean(axis=0)).sum()
    assert fisher_ratio(vectors, speakers) == pytest.approx((total - around) / around)


def test_effective_rank_counts_equal_directions():
    # The corners of a cross-polytope in five dimensions have five equal singular values.
    cross = np.concatenate([np.eye(5), -np.eye(5)])
    assert effective_rank(np.pad(cross, ((0, 0), (0, 20)))) == pytest.approx(5)
    line = np.outer([-1.0, 0.0, 1.0, 2.0], [3.0, 4.0])
    assert effective_rank(line) == pytest.approx(1)


def test_effective_rank_follows_the_entropy_of_unequal_directions():
    values = np.array([3.0, 2.0, 1.0])
    points = np.concatenate([np.diag(values), -np.diag(values)])
    shares = values / 6
    assert effective_rank(points) == pytest.approx(np.prod(shares**-shares))


def test_no_measure_depends_on_the_choice_of_axes(sample):
    vectors, speakers = sample
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))
    assert geometry(vectors @ turn, speakers) == pytest.approx(geometry(vectors, speakers))


def test_histograms_are_densities_even_in_a_narrow_cone():
    rng = np.random.default_rng(0)
    cone = np.ones(16) + 1e-3 * rng.normal(size=(60, 16))
    cone /= np.linalg.norm(cone, axis=1, keepdims=True)
    within, between = pair_cosines(cone, np.repeat(np.arange(10), 6))
    densities = cosine_histogram(within, between)
    width = densities["cosine"].diff().iloc[1]
    assert densities["within"].sum() * width == pytest.approx(1)
    assert densities["between"].sum() * width == pytest.approx(1)
    assert (densities["between"] > 0).mean() > 0.5


@pytest.mark.parametrize(
    ("vectors", "speakers"),
    [
        (np.eye(4), [0, 1, 2, 3]),
        (np.eye(4), [0, 0, 0, 0]),
        (2 * np.eye(4), [0, 0, 1, 1]),
    ],
    ids=["one utterance each", "one speaker", "length 2"],
)
def test_what_has_no_pairs_or_no_unit_length_is_refused(vectors, speakers):
    with pytest.raises(StudyError, match="expected"):
        geometry(vectors, speakers)
