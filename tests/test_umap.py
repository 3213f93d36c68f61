"""The map of few points against umap-learn, which is made for many."""

import os

import numpy as np
import pytest

from studylib.errors import StudyError
from studylib.umap import A, B, lay_out, neighbour_graph, turned_onto, umap

# umap-learn as plain Python: for 72 points this is faster than compiling it.
os.environ.setdefault("NUMBA_DISABLE_JIT", "1")
umap_learn = pytest.importorskip("umap.umap_")


@pytest.fixture(scope="module")
def vectors():
    """Twelve blobs of six points on the sphere in 32 dimensions."""
    rng = np.random.default_rng(0)
    points = np.repeat(rng.normal(size=(12, 32)), 6, axis=0) + 0.7 * rng.normal(size=(72, 32))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def cosine_distances(vectors):
    distances = np.maximum(1 - vectors @ vectors.T, 0)
    np.fill_diagonal(distances, 0)
    return distances


def test_curve_is_the_one_that_umap_learn_fits():
    np.testing.assert_allclose(umap_learn.find_ab_params(1.0, 0.1), (A, B), rtol=1e-5)


def test_graph_is_umap_learns(vectors):
    distances = cosine_distances(vectors)
    expected, _, _ = umap_learn.fuzzy_simplicial_set(
        distances.astype(np.float32), 15, np.random.RandomState(0), "precomputed"
    )
    np.testing.assert_allclose(neighbour_graph(distances, 15), expected.toarray(), atol=2e-4)


def test_twins_do_not_break_the_graph():
    vectors = np.repeat(np.random.default_rng(0).normal(size=(10, 8)), 4, axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    graph = neighbour_graph(cosine_distances(vectors), 15)
    assert np.isfinite(graph).all()
    assert (graph >= 0).all()
    assert (graph <= 1).all()
    np.testing.assert_array_equal(graph, graph.T)
    assert np.isfinite(umap(vectors)).all()


def neighbours_kept(vectors, points, k=7):
    """Mean share of each point's k nearest in space that are also among its k nearest on a map."""
    near = np.argsort(cosine_distances(vectors), axis=1)[:, 1 : k + 1]
    apart = np.square(points[:, None] - points[None]).sum(axis=2)
    np.fill_diagonal(apart, -1)
    on_map = np.argsort(apart, axis=1)[:, 1 : k + 1]
    return np.mean([len(set(a) & set(b)) / k for a, b in zip(near, on_map, strict=True)])


def test_map_keeps_as_many_neighbours_as_umap_learns(vectors):
    library = umap_learn.UMAP(metric="cosine", n_epochs=80, random_state=0, n_jobs=1)
    expected = neighbours_kept(vectors, library.fit_transform(vectors))
    assert neighbours_kept(vectors, umap(vectors)) >= expected - 0.02


def test_a_step_is_the_mean_of_random_steps_as_umap_learn_takes_them():
    """One epoch from one start: forces against the sum over all edges and repelling points."""
    rng = np.random.default_rng(1)
    start = rng.normal(0, 3, (6, 2))
    graph = np.triu(rng.uniform(0.1, 1, (6, 6)), 1)
    graph += graph.T
    step = np.zeros_like(start)
    for i in range(6):
        for j in range(6):
            if i == j:
                continue
            towards = start[j] - start[i]
            square = towards @ towards
            curve = 1 + A * square**B
            pull = 2 * A * B * square ** (B - 1) / curve
            step[i] += graph[i, j] * pull * towards  # the edge drawn from i moves i
            step[j] -= graph[i, j] * pull * towards  # and j
            for k in range(6):  # each time, five others drawn from all repel i
                away = start[i] - start[k]
                push = 2 * B / ((0.001 + away @ away) * (1 + A * (away @ away) ** B))
                step[i] += graph[i, j] * 5 / 6 * push * away
    expected = start + np.clip(step, -4, 4)
    np.testing.assert_allclose(lay_out(graph, start, 1), expected, rtol=1e-8, atol=1e-8)


def test_the_same_vectors_give_the_same_bits(vectors):
    np.testing.assert_array_equal(umap(vectors), umap(vectors))


def test_a_turned_and_mirrored_map_is_turned_back():
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(30, 2))
    angle = 1.1
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (reference * (1, -1)) @ turn + (5.0, -3.0)
    centred = reference - reference.mean(axis=0)
    np.testing.assert_allclose(turned_onto(moved, reference), centred, atol=1e-12)


@pytest.mark.parametrize("n", [10, 3001])
def test_too_few_or_too_many_points_are_refused(n):
    with pytest.raises(StudyError, match="utterances"):
        umap(np.ones((n, 2)))
