"""Embeddings and a trial list -> one score a trial, higher meaning more alike.

Each utterance has several embeddings, one a crop. A trial's score is the mean over all pairs of a
crop of one side and a crop of the other: ten evenly spaced 4-s crops in paper B, sliding windows in
paper A, the whole utterance where there is one crop. The mean over the pairs factorises exactly,

    mean_ij cos(a_i, b_j)   = mean_i(a_i / |a_i|) . mean_j(b_j / |b_j|)
    mean_ij |a_i - b_j|^2   = mean_i |a_i|^2 + mean_j |b_j|^2 - 2 mean_i(a_i) . mean_j(b_j)

so that one mean vector an utterance is enough, whatever the number of crops: 0.6 GB for the 145,000
utterances of VoxCeleb1-E at 512 dimensions, read from a file of 3 GB block by block.
"""

import numpy as np

from studylib.errors import StudyError

# Utterances or trials processed at a time: bounds the memory, and a few dozen stay in the
# processor's cache, which is three times as fast as thousands.
BLOCK = 64


def trial_scores(embeddings, first, second, *, scoring: str) -> np.ndarray:
    """Score every trial by the mean similarity over all crops x crops.

    Parameters
    ----------
    embeddings : (U, crops, D) float
        Crop embeddings; an array or a memory map, read block by block.
    first, second : (T,) int
        The utterances (rows of `embeddings`) of each trial.
    scoring : "cosine" or "euclidean"
        Mean cosine, or mean squared Euclidean distance times -1.

    Returns
    -------
    (T,) float64

    Raises
    ------
    StudyError
        An embedding that is not finite or, for the cosine, one that is all zeros.
    """
    first, second = np.asarray(first), np.asarray(second)
    if scoring == "cosine":
        return dot_products(mean_unit_embeddings(embeddings), first, second)
    if scoring == "euclidean":
        means, squares = _means_and_squares(embeddings)
        return 2 * dot_products(means, first, second) - squares[first] - squares[second]
    raise ValueError(f"scoring is cosine or euclidean, not {scoring}")


def mean_unit_embeddings(embeddings) -> np.ndarray:
    """The mean of an utterance's crop embeddings, each first scaled to length 1.

    Parameters
    ----------
    embeddings : (U, crops, D) float

    Returns
    -------
    (U, D) float64
        Of length at most 1: the more the crops disagree, the shorter. The dot product of two rows
        is the mean cosine of their crops.
    """
    means = np.empty((embeddings.shape[0], embeddings.shape[2]))
    for start in range(0, len(means), BLOCK):
        crops, squares = _crops_and_squares(embeddings, start)
        if not squares.all():
            row = start + int(np.argmin(squares.min(axis=1)))
            raise StudyError(f"Utterance {row} has an embedding of length 0: no cosine exists.")
        shares = 1 / (np.sqrt(squares) * embeddings.shape[1])
        means[start : start + BLOCK] = np.matmul(shares[:, None], crops)[:, 0]
    return means


def _means_and_squares(embeddings) -> tuple[np.ndarray, np.ndarray]:
    """Mean vector (U, D) and mean squared length (U,) of each utterance's crops."""
    means = np.empty((embeddings.shape[0], embeddings.shape[2]))
    squares = np.empty(embeddings.shape[0])
    for start in range(0, len(means), BLOCK):
        crops, own = _crops_and_squares(embeddings, start)
        means[start : start + BLOCK] = crops.mean(axis=1)
        squares[start : start + BLOCK] = own.mean(axis=1)
    return means, squares


def dot_products(vectors, first, second) -> np.ndarray:
    """The dot product of each trial's two rows of `vectors` (U, D), (T,) float64, in blocks."""
    scores = np.empty(len(first))
    for start in range(0, len(first), BLOCK):
        part = slice(start, start + BLOCK)
        scores[part] = np.vecdot(vectors[first[part]], vectors[second[part]])
    return scores


def speaker_means(vectors: np.ndarray, speakers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean vector (C, D) of each speaker, in sorted order; speaker number (U,); utterances (C,)."""
    names, numbers, counts = np.unique(speakers, return_inverse=True, return_counts=True)
    means = np.zeros((len(names), vectors.shape[1]))
    np.add.at(means, numbers, vectors)
    return means / counts[:, None], numbers, counts


def _crops_and_squares(embeddings, start: int) -> tuple[np.ndarray, np.ndarray]:
    """A block (B, crops, D) in double precision and its squared lengths (B, crops).

    Lengths are not finite where a number is not, and faster to check than all numbers.
    """
    crops = np.asarray(embeddings[start : start + BLOCK], dtype=np.float64)
    squares = np.vecdot(crops, crops)
    if not np.isfinite(squares).all():
        row = start + int(np.argmin(np.isfinite(squares).all(axis=1)))
        raise StudyError(f"Utterance {row} has an embedding that is not finite.")
    return crops, squares
