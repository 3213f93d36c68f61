"""Back-ends by name: each turns embeddings into a function that scores trials.

A back-end is called with embeddings (U, crops, D), those of training utterances with their speakers
(None if no back-end of the settings learns), the settings, and the `scoring` of the model's file.
It returns a function from both sides (T,) of the trials, rows of the embeddings, to scores (T,).
"""

from collections.abc import Callable

import numpy as np

from studylib.evaluation.plda import fit_plda
from studylib.evaluation.protocols import Training
from studylib.evaluation.scores import (
    dot_products,
    mean_unit_embeddings,
    speaker_means,
    trial_scores,
)
from studylib.evaluation.settings import EvaluateSettings

Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]
COHORT_BLOCK = 1024  # utterances compared with the cohort at a time


def cosine(embeddings, training, settings: EvaluateSettings, scoring: str) -> Scorer:
    """The similarity of the embeddings named by the model's file, without normalisation.

    The mean cosine, or minus the mean squared distance for a loss that trains distances
    (prototypical).
    """
    return lambda first, second: trial_scores(embeddings, first, second, scoring=scoring)


def centred(embeddings, training, settings: EvaluateSettings, scoring: str) -> Scorer:
    """The mean cosine of crop embeddings of length 1 less their mean over the utterances scored.

    The mean is that of the utterances of all trials measured, without labels: it takes away what
    their speakers have in common and the training speakers have not, such as a channel.
    """
    crops = _centred(embeddings)
    return lambda first, second: trial_scores(crops, first, second, scoring="cosine")


def centred_snorm(embeddings, training, settings: EvaluateSettings, scoring: str) -> Scorer:
    """As `centred`, then symmetric score normalisation by the utterances scored themselves.

    Mean and deviation of an utterance's scores are those against all other utterances of the
    trials measured, without labels. Where a speaker has a good part of them, their own utterances
    raise both.
    """
    vectors = mean_unit_embeddings(_centred(embeddings))
    own, others = np.vecdot(vectors, vectors), len(vectors) - 1
    means = (vectors @ vectors.sum(axis=0) - own) / others
    squares = (np.vecdot(vectors @ (vectors.T @ vectors), vectors) - own**2) / others
    return _normalised(vectors, means, np.sqrt(squares - means**2))


def snorm(embeddings, training: Training, settings: EvaluateSettings, scoring: str) -> Scorer:
    """The mean cosine after adaptive symmetric score normalisation.

    Each side of a trial is scored against a cohort of training speakers, one mean embedding each;
    only the `cohort_top` highest of these scores are used. With mean m and deviation d of those
    scores, s' = 1/2 ((s - m_first) / d_first + (s - m_second) / d_second).

    References
    ----------
    Matejka et al. 2017, "Analysis of score normalization in multilingual speaker recognition".
    A: Coria et al. 2020, section 4: the 400 closest of a cohort of per-speaker mean embeddings.
    """
    vectors = mean_unit_embeddings(embeddings)
    cohort, *_ = speaker_means(mean_unit_embeddings(training[0]), training[1])
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)
    top = min(settings.cohort_top, len(cohort))
    means, deviations = np.empty(len(vectors)), np.empty(len(vectors))
    for start in range(0, len(vectors), COHORT_BLOCK):
        part = slice(start, start + COHORT_BLOCK)
        scores = vectors[part] @ cohort.T
        closest = np.partition(scores, len(cohort) - top, axis=1)[:, -top:]
        means[part], deviations[part] = closest.mean(axis=1), closest.std(axis=1)

    return _normalised(vectors, means, deviations)


def plda(embeddings, training: Training, settings: EvaluateSettings, scoring: str) -> Scorer:
    """LDA and PLDA fitted to one mean vector a training utterance."""
    vectors, speakers = training[0].mean(axis=1), training[1]
    most = min(vectors.shape[1], len(np.unique(speakers)) - 1)
    project, model = fit_plda(vectors, speakers, min(settings.plda_dimension, most))
    tested = project(embeddings.mean(axis=1))
    return lambda first, second: model.log_likelihood_ratios(tested, first, second)


def _centred(embeddings: np.ndarray) -> np.ndarray:
    """Crop embeddings of length 1, less their mean."""
    crops = embeddings / np.linalg.norm(embeddings, axis=2, keepdims=True)
    return crops - crops.mean(axis=(0, 1))


def _normalised(vectors: np.ndarray, means: np.ndarray, deviations: np.ndarray) -> Scorer:
    """Dot products less each side's mean, over its deviation; the mean of both sides."""

    def score(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        scores = dot_products(vectors, first, second)
        sides = [(scores - means[side]) / deviations[side] for side in (first, second)]
        return (sides[0] + sides[1]) / 2

    return score


BACKENDS = {
    "cosine": cosine,
    "centred": centred,
    "centred_snorm": centred_snorm,
    "snorm": snorm,
    "plda": plda,
}
