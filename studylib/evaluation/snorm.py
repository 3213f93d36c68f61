"""Adaptive symmetric score normalisation: a score told in standard deviations of an impostor's.

Each side of a trial is scored against a cohort of other speakers, one mean embedding each; only the
cohort speakers closest to that side count (its likely impostors). With mean m and deviation d of
those scores,

    s' = 1/2 ((s - m_first) / d_first + (s - m_second) / d_second)

References
----------
Matejka et al. 2017, "Analysis of score normalization in multilingual speaker recognition".
A: Coria et al. 2020, section 4: the 400 closest of a cohort of per-speaker mean embeddings.
"""

import numpy as np

from studylib.errors import StudyError


def speaker_means(vectors, speakers) -> np.ndarray:
    """One mean vector of length 1 a speaker, in sorted order of the speakers: (C, D).

    Parameters
    ----------
    vectors : (U, D) float
        One vector an utterance; dot products of two of them are their scores.
    speakers : (U,) int or str
    """
    vectors, speakers = np.asarray(vectors, dtype=np.float64), np.asarray(speakers)
    if vectors.ndim != 2 or speakers.shape != vectors.shape[:1]:
        raise StudyError(
            f"A cohort needs one speaker for each vector, not {vectors.shape} vectors and "
            f"{speakers.shape} speakers."
        )
    names, numbers = np.unique(speakers, return_inverse=True)
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, numbers, vectors)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise StudyError(f"The embeddings of speaker {names[np.argmin(lengths)]} cancel out.")
    return sums / lengths


def adaptive_snorm(
    scores, vectors, cohort, first, second, *, top: int = 400, block: int = 1024
) -> np.ndarray:
    """Normalise cosine scores by the closest cohort speakers of both sides.

    Parameters
    ----------
    scores : (T,) float
        Cosine scores of the trials.
    vectors : (U, D) float
        The vectors whose dot products are the scores (`scoring.mean_unit_embeddings`).
    cohort : (C, D) float
        Unit vectors of speakers who occur in no trial (`speaker_means`).
    first, second : (T,) int
        Rows of `vectors` on each side of the trials.
    top : int
        Cohort speakers that count for each side, 2 .. C.

    Returns
    -------
    (T,) float64

    Raises
    ------
    StudyError
        `top` out of range, shapes that do not fit, or a side whose cohort scores are all equal.
    """
    scores, vectors, cohort = np.asarray(scores), np.asarray(vectors), np.asarray(cohort)
    first, second = np.asarray(first), np.asarray(second)
    if not scores.shape == first.shape == second.shape:
        raise StudyError("Scores and both sides of the trials must be lists of one length.")
    if vectors.ndim != 2 or cohort.ndim != 2 or vectors.shape[1] != cohort.shape[1]:
        raise StudyError(
            f"Trial vectors and cohort must have one dimension, not {vectors.shape}, {cohort.shape}"
        )
    if not 2 <= top <= len(cohort):
        raise StudyError(
            f"s-norm takes the closest 2 to {len(cohort)} speakers of this cohort, not {top}."
        )
    used, rows = np.unique(np.concatenate([first, second]), return_inverse=True)
    means, deviations = _closest(vectors[used], cohort, top, block)
    if not (deviations > 0).all():
        row = used[np.argmin(deviations)]
        raise StudyError(f"Utterance {row} is equally far from all cohort speakers: no s-norm.")
    standard = (scores - means[rows.reshape(2, -1)]) / deviations[rows.reshape(2, -1)]
    return standard.mean(axis=0)


def _closest(vectors, cohort, top: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each vector's `top` highest cohort scores, (U,) each."""
    means, deviations = np.empty(len(vectors)), np.empty(len(vectors))
    for start in range(0, len(vectors), block):
        part = slice(start, start + block)
        scores = vectors[part] @ cohort.T
        highest = np.partition(scores, scores.shape[1] - top, axis=1)[:, -top:]
        means[part], deviations[part] = highest.mean(axis=1), highest.std(axis=1)
    return means, deviations
