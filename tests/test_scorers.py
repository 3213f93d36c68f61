"""Back-ends in the evaluation against their own definitions, trial by trial."""

import numpy as np
import pytest

from studylib.errors import StudyError
from studylib.evaluation.backends import fit_plda
from studylib.evaluation.protocols import TrainingEmbeddings
from studylib.evaluation.scorers import scorer
from studylib.evaluation.settings import EvaluateSettings

RNG = np.random.default_rng(0)
FIRST, SECOND = np.array([0, 1, 2, 5]), np.array([3, 4, 0, 5])


def embeddings_of(n_speakers, n_utterances, rng):
    """(U, 2 crops, 6) and speakers (U,)."""
    speakers = np.repeat(np.arange(n_speakers), n_utterances)
    centres = 2 * rng.normal(size=(n_speakers, 1, 6))
    return centres[speakers] + rng.normal(size=(len(speakers), 2, 6)), speakers


TESTED = embeddings_of(3, 2, RNG)[0]
TRAINING = TrainingEmbeddings(*embeddings_of(8, 4, RNG))


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_the_plain_back_end_is_the_similarity_the_model_was_trained_with():
    settings = EvaluateSettings()
    distances = scorer("cosine", TESTED, None, settings, scoring="euclidean")(FIRST, SECOND)
    for trial, (i, j) in enumerate(zip(FIRST, SECOND, strict=True)):
        pairs = [np.sum((a - b) ** 2) for a in TESTED[i] for b in TESTED[j]]
        assert distances[trial] == pytest.approx(-np.mean(pairs))


def test_s_norm_tells_cosines_in_deviations_of_the_closest_training_speakers():
    settings = EvaluateSettings(cohort_top=5)
    scores = scorer("snorm", TESTED, TRAINING, settings, scoring="euclidean")(FIRST, SECOND)
    vectors, training = unit(TESTED).mean(axis=1), unit(TRAINING.embeddings).mean(axis=1)
    cohort = unit(np.stack([training[TRAINING.speakers == s].mean(axis=0) for s in range(8)]))
    for trial, (i, j) in enumerate(zip(FIRST, SECOND, strict=True)):
        raw = vectors[i] @ vectors[j]
        closest = [np.sort(cohort @ vectors[side])[-5:] for side in (i, j)]
        expected = np.mean([(raw - near.mean()) / near.std() for near in closest])
        assert scores[trial] == pytest.approx(expected)


def test_a_cohort_smaller_than_asked_for_is_taken_whole():
    all_of_it, more = (
        scorer("snorm", TESTED, TRAINING, EvaluateSettings(cohort_top=top), scoring="cosine")
        for top in (8, 400)
    )
    np.testing.assert_array_equal(all_of_it(FIRST, SECOND), more(FIRST, SECOND))


@pytest.mark.parametrize(("asked", "kept"), [(3, 3), (150, 6)])
def test_plda_is_fitted_to_the_mean_vector_of_each_training_utterance(asked, kept):
    settings = EvaluateSettings(plda_dimension=asked)
    scores = scorer("plda", TESTED, TRAINING, settings, scoring="cosine")(FIRST, SECOND)
    plda = fit_plda(TRAINING.embeddings.mean(axis=1), TRAINING.speakers, dimension=kept)
    np.testing.assert_allclose(scores, plda.scores(TESTED.mean(axis=1), FIRST, SECOND))


def test_too_few_training_utterances_for_plda_are_an_error():
    few = TrainingEmbeddings(TRAINING.embeddings[:6], TRAINING.speakers[:6])
    with pytest.raises(StudyError, match="got 6 utterances of 2 speakers"):
        scorer("plda", TESTED, few, EvaluateSettings(), scoring="cosine")
