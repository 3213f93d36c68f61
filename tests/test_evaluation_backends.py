"""s-norm against a loop, PLDA against Gaussian densities, calibration on held-out trials."""

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import multivariate_normal

from studylib.errors import StudyError
from studylib.evaluation.backends import BACKENDS
from studylib.evaluation.calibration import fit_calibration
from studylib.evaluation.plda import TwoCovariance, fit_plda, fit_two_covariance
from studylib.evaluation.settings import EvaluateSettings

RNG = np.random.default_rng(0)
FIRST, SECOND = np.array([0, 1, 2, 5]), np.array([3, 4, 0, 5])


def embeddings_of(n_speakers, n_utterances, rng):
    """(U, 2 crops, 6) and speakers (U,)."""
    speakers = np.repeat(np.arange(n_speakers), n_utterances)
    centres = 2 * rng.normal(size=(n_speakers, 1, 6))
    return centres[speakers] + rng.normal(size=(len(speakers), 2, 6)), speakers


TESTED = embeddings_of(3, 2, RNG)[0]
TRAINING, SPEAKERS = embeddings_of(8, 4, RNG)


def scores_by(backend, scoring="cosine", **settings):
    score = BACKENDS[backend](TESTED, (TRAINING, SPEAKERS), EvaluateSettings(**settings), scoring)
    return score(FIRST, SECOND)


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_centred_is_the_cosine_of_unit_crops_less_the_mean_of_all():
    scores, crops = scores_by("centred", "euclidean"), unit(TESTED)
    moved = unit(crops - crops.reshape(-1, 6).mean(axis=0))
    expected = [np.mean(moved[i] @ moved[j].T) for i, j in zip(FIRST, SECOND, strict=True)]
    np.testing.assert_allclose(scores, expected)


def test_centred_s_norm_takes_each_utterance_s_scores_against_all_others():
    scores, crops = scores_by("centred_snorm", "euclidean"), unit(TESTED)
    vectors = unit(crops - crops.reshape(-1, 6).mean(axis=0)).mean(axis=1)
    for trial, (i, j) in enumerate(zip(FIRST, SECOND, strict=True)):
        others = [np.delete(vectors, side, axis=0) @ vectors[side] for side in (i, j)]
        expected = np.mean([(vectors[i] @ vectors[j] - of.mean()) / of.std() for of in others])
        assert scores[trial] == pytest.approx(expected)


@pytest.mark.parametrize(("wanted", "top"), [(5, 5), (400, 8)])
def test_s_norm_gives_cosines_in_deviations_of_the_closest_training_speakers(wanted, top):
    scores = scores_by("snorm", "euclidean", cohort_top=wanted)
    vectors, training = unit(TESTED).mean(axis=1), unit(TRAINING).mean(axis=1)
    cohort = unit(np.stack([training[s == SPEAKERS].mean(axis=0) for s in range(8)]))
    for trial, (i, j) in enumerate(zip(FIRST, SECOND, strict=True)):
        raw = vectors[i] @ vectors[j]
        closest = [np.sort(cohort @ vectors[side])[-top:] for side in (i, j)]
        expected = np.mean([(raw - near.mean()) / near.std() for near in closest])
        assert scores[trial] == pytest.approx(expected)


@pytest.mark.parametrize(("wanted", "kept"), [(3, 3), (150, 6)])
def test_plda_is_fitted_to_the_mean_vector_of_each_training_utterance(wanted, kept):
    project, model = fit_plda(TRAINING.mean(axis=1), SPEAKERS, kept)
    expected = model.log_likelihood_ratios(project(TESTED.mean(axis=1)), FIRST, SECOND)
    np.testing.assert_allclose(scores_by("plda", plda_dimension=wanted), expected)


def test_too_few_training_utterances_for_plda_are_an_error():
    rows = [0, 1, 4, 5, 8, 12]
    with pytest.raises(StudyError, match="here are 2 repeated utterances of 4 speakers"):
        fit_plda(TRAINING.mean(axis=1)[rows], SPEAKERS[rows], 3)


def drawn_from_the_model(n_speakers, utterances, seed):
    """Data of a two-covariance model; a speaker has one of `utterances` as their count."""
    generator = np.random.default_rng(seed)
    between = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, 0.0], [0.5, 0.0, 0.5]])
    within = np.array([[1.0, 0.3, 0.0], [0.3, 0.5, -0.1], [0.0, -0.1, 0.8]])
    speakers = np.repeat(np.arange(n_speakers), generator.choice(utterances, n_speakers))
    identities = generator.multivariate_normal([5.0, -3.0, 0.0], between, n_speakers)
    sessions = generator.multivariate_normal(np.zeros(3), within, len(speakers))
    return identities[speakers] + sessions, speakers


def joint_log_likelihood(model, vectors, speakers):
    """Each speaker's utterances as one long Gaussian vector: no shared code, no shared algebra."""
    total = 0.0
    for speaker in np.unique(speakers):
        own = vectors[speakers == speaker]
        n = len(own)
        covariance = np.kron(np.ones((n, n)), model.between) + np.kron(np.eye(n), model.within)
        total += multivariate_normal(np.tile(model.mean, n), covariance).logpdf(own.ravel())
    return total


def test_each_plda_iteration_raises_the_likelihood_up_to_its_maximum():
    vectors, speakers = drawn_from_the_model(60, [1, 2, 6], 1)
    fits = [fit_two_covariance(vectors, speakers, n) for n in (0, 1, 2, 3, 5, 10, 100, 1000)]
    likelihoods = [joint_log_likelihood(fit, vectors, speakers) for fit in fits]
    assert np.all(np.diff(likelihoods) >= -1e-9)
    best = likelihoods[-1]
    for change in (0.98, 1.02):
        for part in ("mean", "between", "within"):
            moved = {**vars(fits[-1]), part: getattr(fits[-1], part) * change}
            assert joint_log_likelihood(TwoCovariance(**moved), vectors, speakers) < best


def test_plda_ratios_equal_the_ratio_of_gaussian_densities():
    vectors, speakers = drawn_from_the_model(50, [3, 4], 2)
    model = fit_two_covariance(vectors, speakers)
    first, second = np.random.default_rng(0).integers(0, len(vectors), (2, 60))
    total = model.between + model.within
    one = np.block([[total, model.between], [model.between, total]])
    expected = [
        multivariate_normal(np.tile(model.mean, 2), one).logpdf(np.concatenate([a, b]))
        - multivariate_normal(model.mean, total).logpdf(a)
        - multivariate_normal(model.mean, total).logpdf(b)
        for a, b in zip(vectors[first], vectors[second], strict=True)
    ]
    found = model.log_likelihood_ratios(vectors, first, second)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_calibration_finds_the_true_ratio_and_the_threshold_of_its_prior():
    generator, prior = np.random.default_rng(11), 0.1
    targets = generator.random(6000) < 0.3
    scores = 0.35 + 0.12 * (generator.normal(size=6000) + 2.5 * targets)
    found = fit_calibration(scores, targets, target_prior=prior)
    # Gaussians 2.5 sigma apart, sigma 0.12: llr = 2.5 (s - 0.35) / 0.12 - 3.125.
    assert found["scale"] == pytest.approx(2.5 / 0.12, rel=0.08)
    assert found["offset"] == pytest.approx(-3.125 - 2.5 * 0.35 / 0.12, rel=0.08)
    posterior = expit(found["scale"] * scores + found["offset"] + logit(prior))
    np.testing.assert_array_equal(scores >= found["threshold"], posterior >= 0.5)


def test_calibration_without_an_answer_is_refused():
    for separated in ([0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]):
        with pytest.raises(StudyError, match="separate the trials perfectly"):
            fit_calibration(separated, [False, False, True, True])
    with pytest.raises(StudyError, match="do not part targets"):
        fit_calibration([3.0, 2.0, 2.5, 1.0], [False, False, True, True])
