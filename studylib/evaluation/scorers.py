"""Back-ends by name: embeddings -> a function that scores trials.

- `cosine`: the plain similarity of the embeddings, as the model's file says: the mean cosine, or
  minus the mean squared distance for a loss that trains distances (prototypical).
- `snorm`: the mean cosine after adaptive s-norm; the cohort is one mean a training speaker.
- `plda`: LDA and PLDA fitted to one mean vector a training utterance.
"""

from collections.abc import Callable

import numpy as np

from studylib.evaluation.backends import adaptive_snorm, fit_plda, speaker_means
from studylib.evaluation.protocols import TrainingEmbeddings
from studylib.evaluation.scores import mean_unit_embeddings, trial_scores
from studylib.evaluation.settings import EvaluateSettings

Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]  # both sides (T,) of trials -> (T,)


def scorer(
    backend: str,
    embeddings: np.ndarray,
    training: TrainingEmbeddings | None,
    settings: EvaluateSettings,
    *,
    scoring: str,
) -> Scorer:
    """The function that scores trials, given as rows of `embeddings` on each side.

    Parameters
    ----------
    backend : "cosine", "snorm" or "plda"
    embeddings : (U, C, D) float
    training : TrainingEmbeddings or None
        From `protocols.embed_training`; only the cosine does without.
    scoring : "cosine" or "euclidean"
        What the back-end `cosine` is for this model.

    Raises
    ------
    StudyError
        If the training embeddings do not suffice for a cohort or for PLDA.
    """
    if backend == "cosine":
        return lambda first, second: trial_scores(embeddings, first, second, scoring=scoring)
    if backend == "snorm":
        vectors = mean_unit_embeddings(embeddings)
        cohort = speaker_means(mean_unit_embeddings(training.embeddings), training.speakers)
        top = min(settings.cohort_top, len(cohort))
        return lambda first, second: adaptive_snorm(
            trial_scores(embeddings, first, second, scoring="cosine"),
            vectors,
            cohort,
            first,
            second,
            top=top,
        )
    vectors = training.embeddings.mean(axis=1)
    most = min(vectors.shape[1], len(np.unique(training.speakers)) - 1)
    plda = fit_plda(vectors, training.speakers, dimension=min(settings.plda_dimension, most))
    tested = embeddings.mean(axis=1)
    return lambda first, second: plda.scores(tested, first, second)
