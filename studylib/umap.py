"""UMAP of some hundred points: a map on which near neighbours stay near.

After McInnes, Healy, Melville, "UMAP: Uniform Manifold Approximation and Projection for Dimension
Reduction" (2018), section 4. Neighbours become a weighted graph; points in the plane then attract
each other along its edges and repel each other everywhere.

The usual implementation, umap-learn, is made for many points: it draws edges and repelling points
at random, and compiles itself at its first call, which takes longer (20 s of processor time) than
laying out a thousand times what is shown here. For few points all pairs are at hand, so each step
applies the mean of what the random steps would do (Damrich and Hamprecht 2021): nothing is drawn,
nothing compiled. The graph is umap-learn's; the tests compare both.
"""

import numpy as np

from studylib.errors import StudyError

# 1 / (1 + A x^(2 B)) falls with distance x as umap-learn's curve for min_dist 0.1, spread 1 does.
A, B = 1.5769435, 0.8950609
REPULSION = 5  # repelling points for each attracting one
SOFTENING = 0.001  # added to squared distances, so that no repulsion is infinite
LONGEST_STEP = 4.0
MOST_POINTS = 3_000  # memory and time grow with the square


def umap(vectors: np.ndarray, *, n_neighbors: int = 15, epochs: int = 300) -> np.ndarray:
    """Lay out vectors in the plane by their cosines; the same input gives the same map.

    Parameters
    ----------
    vectors : (U, D) float
    n_neighbors : int
        How many points, itself included, count as a point's neighbourhood.
    epochs : int

    Returns
    -------
    (U, 2) float64

    Raises
    ------
    StudyError
        Fewer points than a neighbourhood, or too many for this method.
    """
    if not n_neighbors < len(vectors) <= MOST_POINTS:
        raise StudyError(
            f"a map of {len(vectors)} utterances: expected more than n_neighbors ({n_neighbors}) "
            f"and at most {MOST_POINTS:,}"
        )
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    graph = neighbour_graph(np.maximum(1 - unit @ unit.T, 0), n_neighbors)
    return lay_out(graph, principal_plane(unit), epochs)


def neighbour_graph(distances: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Distances (U, U) -> how surely two points are neighbours, symmetric (U, U) in [0, 1].

    A neighbour at distance d has weight exp(-(d - rho) / sigma): rho is the distance to the
    nearest one, and sigma makes the sum over a neighbourhood log2(n_neighbors). One sure direction
    is enough: w_ij + w_ji - w_ij w_ji.
    """
    apart = distances.copy()
    np.fill_diagonal(apart, -1.0)  # each point comes first in its own neighbourhood
    neighbours = np.argsort(apart, axis=1, kind="stable")[:, 1:n_neighbors]
    near = np.take_along_axis(distances, neighbours, axis=1)
    rho = np.where(near > 0, near, np.inf).min(axis=1, keepdims=True)
    beyond = np.maximum(near - rho, 0)
    low, high = np.zeros_like(rho), np.full_like(rho, np.inf)
    sigma = np.ones_like(rho)
    for _ in range(64):
        too_wide = np.exp(-beyond / sigma).sum(axis=1, keepdims=True) > np.log2(n_neighbors)
        low, high = np.where(too_wide, low, sigma), np.where(too_wide, sigma, high)
        sigma = np.where(np.isinf(high), 2 * sigma, (low + high) / 2)
    directed = np.zeros_like(distances)
    np.put_along_axis(directed, neighbours, np.exp(-beyond / sigma), axis=1)
    return directed + directed.T - directed * directed.T


def principal_plane(vectors: np.ndarray) -> np.ndarray:
    """The two main directions of vectors (U, D), the widest from -10 to 10: where a map starts."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    plane = left[:, :2] * sizes[:2]
    plane = 10 * plane / max(np.abs(plane).max(), 1e-12)
    # Equal vectors would stay together for ever.
    return plane + np.random.default_rng(0).normal(0, 1e-4, plane.shape)


def lay_out(graph: np.ndarray, start: np.ndarray, epochs: int) -> np.ndarray:
    """Move points (U, 2) from their start until neighbours in the graph (U, U) are near."""
    points = start.copy()
    # In an epoch an edge is drawn in proportion to its weight, from either end, and moves both
    # ends; each time, one end is repelled by REPULSION points drawn from all.
    attraction = 2 * graph
    repulsion = REPULSION * graph.sum(axis=1, keepdims=True) / len(graph)
    for epoch in range(epochs):
        across, up = (axis[:, None] - axis for axis in points.T)
        squares = across * across + up * up + 1e-12
        powers = A * squares**B
        forces = repulsion / (SOFTENING + squares) - attraction * powers / squares
        forces *= 2 * B / (1 + powers)
        # Sums, not products of matrices: for so few points threads cost more than they save.
        step = np.stack([(forces * across).sum(axis=1), (forces * up).sum(axis=1)], axis=1)
        points += (1 - epoch / epochs) * np.clip(step, -LONGEST_STEP, LONGEST_STEP)
    return points


def turned_onto(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Points (U, 2) turned, and mirrored if need be, to lie as near to a reference as they can.

    A map has no up and no left; this lets the same points be found in another map (orthogonal
    Procrustes problem, Schönemann 1966). Distances stay what they are.
    """
    centred = points - points.mean(axis=0)
    left, _, right = np.linalg.svd(centred.T @ (reference - reference.mean(axis=0)))
    return centred @ (left @ right)
