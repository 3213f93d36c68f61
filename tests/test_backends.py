"""s-norm against a loop, PLDA against Gaussian densities, calibration on held-out trials."""

import json

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from studylib.errors import StudyError
from studylib.evaluation import backends
from studylib.evaluation import scores as scoring
from studylib.statistics import error_rates as metrics


@pytest.fixture(scope="module")
def embedded():
    """Embeddings (60 utterances, 5 crops), their trials, and a cohort of 30 other speakers."""
    generator = np.random.default_rng(4)
    centres = generator.normal(size=(42, 1, 1, 8))
    crops = centres + generator.normal(size=(42, 5, 5, 8))
    vectors = scoring.mean_unit_embeddings(crops.reshape(210, 5, 8))
    speakers = np.repeat(np.arange(42), 5)
    cohort = backends.speaker_means(vectors[60:], speakers[60:])  # 30 speakers
    first, second = np.triu_indices(60, 1)
    scores = scoring.trial_scores(crops.reshape(210, 5, 8), first, second, scoring="cosine")
    return vectors[:60], speakers[:60], cohort, first, second, scores


def test_s_norm_equals_the_loop_over_trials_and_cohort(embedded):
    vectors, _, cohort, first, second, scores = embedded
    found = backends.adaptive_snorm(scores, vectors, cohort, first, second, top=7, block=11)
    for trial in range(0, len(scores), 13):
        sides = []
        for row in (first[trial], second[trial]):
            closest = sorted((vectors[row] @ speaker for speaker in cohort), reverse=True)[:7]
            sides.append((scores[trial] - np.mean(closest)) / np.std(closest))
        assert found[trial] == pytest.approx(sum(sides) / 2, abs=1e-10)


def test_cohort_means_are_the_normalised_mean_of_each_speakers_vectors(embedded):
    vectors, speakers, *_ = embedded
    means = backends.speaker_means(vectors, speakers)
    for speaker in np.unique(speakers):
        mean = vectors[speakers == speaker].mean(axis=0)
        np.testing.assert_allclose(means[speaker], mean / np.linalg.norm(mean), atol=1e-12)


def test_s_norm_does_not_care_for_scale_or_offset_of_the_cohorts_scores(embedded):
    # With the whole cohort, raising all scores of one side by a constant changes nothing.
    vectors, _, cohort, first, second, scores = embedded
    plain = backends.adaptive_snorm(scores, vectors, cohort, first, second, top=len(cohort))
    scaled = backends.adaptive_snorm(3 * scores, 3 * vectors, cohort, first, second, top=30)
    np.testing.assert_allclose(scaled, plain, atol=1e-10)


def test_s_norm_refuses_a_cohort_that_does_not_fit(embedded):
    vectors, _, cohort, first, second, scores = embedded
    with pytest.raises(StudyError, match="closest 2 to 30 speakers"):
        backends.adaptive_snorm(scores, vectors, cohort, first, second, top=31)
    with pytest.raises(StudyError, match="one dimension"):
        backends.adaptive_snorm(scores, vectors, cohort[:, :3], first, second, top=3)
    with pytest.raises(StudyError, match="one length"):
        backends.adaptive_snorm(scores[1:], vectors, cohort, first, second, top=3)
    same = np.repeat(cohort[:1], 5, axis=0)
    with pytest.raises(StudyError, match="equally far"):
        backends.adaptive_snorm(scores, vectors, same, first, second, top=3)


def drawn_from_the_model(n_speakers, utterances, seed):
    """Data of a two-covariance model; a speaker has one of `utterances` as their count."""
    generator = np.random.default_rng(seed)
    between = np.array([[4.0, 1.0, 0.5], [1.0, 2.0, 0.0], [0.5, 0.0, 0.5]])
    within = np.array([[1.0, 0.3, 0.0], [0.3, 0.5, -0.1], [0.0, -0.1, 0.8]])
    mean = np.array([5.0, -3.0, 0.0])
    speakers = np.repeat(np.arange(n_speakers), generator.choice(utterances, n_speakers))
    identities = generator.multivariate_normal(mean, between, n_speakers)
    sessions = generator.multivariate_normal(np.zeros(3), within, len(speakers))
    return identities[speakers] + sessions, speakers, mean, between, within


def test_plda_recovers_the_parameters_of_data_drawn_from_it():
    vectors, speakers, mean, between, within = drawn_from_the_model(3000, [1, 2, 5, 12], 0)
    model = backends.fit_two_covariance(vectors, speakers)
    np.testing.assert_allclose(model.mean, mean, atol=0.15)
    np.testing.assert_allclose(model.between, between, atol=0.2)
    np.testing.assert_allclose(model.within, within, atol=0.03)


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
    vectors, speakers, *_ = drawn_from_the_model(60, [1, 2, 6], 1)
    fits = [
        backends.fit_two_covariance(vectors, speakers, iterations=n, tolerance=-1)
        for n in (0, 1, 2, 3, 5, 10, 100, 1000)
    ]
    likelihoods = [joint_log_likelihood(fit, vectors, speakers) for fit in fits]
    assert np.all(np.diff(likelihoods) >= -1e-9)
    best = likelihoods[-1]
    for change in (0.98, 1.02):
        for part in ("mean", "between", "within"):
            moved = {**vars(fits[-1]), part: getattr(fits[-1], part) * change}
            assert joint_log_likelihood(backends.TwoCovariance(**moved), vectors, speakers) < best


def test_plda_ratios_equal_the_ratio_of_gaussian_densities():
    vectors, speakers, *_ = drawn_from_the_model(50, [3, 4], 2)
    model = backends.fit_two_covariance(vectors, speakers)
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


def test_plda_ratios_on_its_own_data_are_calibrated_and_beat_the_cosine():
    vectors, speakers, *_ = drawn_from_the_model(2000, [10], 5)
    held_out, their_speakers, *_ = drawn_from_the_model(200, [5], 6)
    first, second = np.triu_indices(len(held_out), 1)
    targets = their_speakers[first] == their_speakers[second]
    backend = backends.fit_plda(vectors, speakers, dimension=3, normalise=False)
    ratios = backend.scores(held_out, first, second)
    best = metrics.minimum_log_likelihood_ratio_cost(ratios, targets)
    assert metrics.log_likelihood_ratio_cost(ratios, targets) < best + 0.02
    centred = (held_out - vectors.mean(axis=0))[:, None]
    cosines = scoring.trial_scores(centred, first, second, scoring="cosine")
    eer = metrics.equal_error_rate(ratios, targets)
    assert eer < metrics.equal_error_rate(cosines, targets) - 0.01


def test_lda_spans_the_subspace_of_scikit_learns():
    generator = np.random.default_rng(8)
    speakers = np.repeat(np.arange(12), generator.integers(4, 20, 12))
    vectors = generator.normal(size=(12, 10))[speakers] + generator.normal(size=(len(speakers), 10))
    ours = backends.fit_plda(vectors, speakers, dimension=4, normalise=False).projection
    theirs = LinearDiscriminantAnalysis(solver="eigen").fit(vectors, speakers).scalings_[:, :4]
    cosines = np.linalg.svd(np.linalg.qr(ours)[0].T @ np.linalg.qr(theirs)[0])[1]
    np.testing.assert_allclose(cosines, 1, atol=1e-9)


def test_length_normalisation_puts_every_projected_vector_on_one_sphere():
    vectors, speakers, *_ = drawn_from_the_model(100, [4], 3)
    lengths = np.linalg.norm(
        backends.fit_plda(vectors, speakers, dimension=2).project(vectors), axis=1
    )
    np.testing.assert_allclose(lengths, np.sqrt(2))


def test_plda_refuses_data_that_do_not_determine_it():
    vectors, speakers, *_ = drawn_from_the_model(40, [3], 9)
    with pytest.raises(StudyError, match="LDA keeps 1 to 3 dimensions"):
        backends.fit_plda(vectors, speakers, dimension=4)
    with pytest.raises(StudyError, match="repeated utterances"):
        backends.fit_two_covariance(vectors, np.arange(len(vectors)))
    with pytest.raises(StudyError, match="singular"):
        backends.fit_two_covariance(np.repeat(vectors[:40], 3, axis=0), np.repeat(np.arange(40), 3))
    with pytest.raises(StudyError, match="not finite"):
        backends.fit_two_covariance(vectors * np.nan, speakers)
    with pytest.raises(StudyError, match="one speaker for each vector"):
        backends.fit_two_covariance(vectors, speakers[1:])


@pytest.fixture(scope="module")
def score_lists():
    """Development and test scores of one system, far from being likelihood ratios."""
    generator = np.random.default_rng(11)
    lists = []
    for size in (6000, 20_000):
        targets = generator.random(size) < 0.3
        lists.append((0.35 + 0.12 * (generator.normal(size=size) + 2.5 * targets), targets))
    return lists


def test_calibration_lowers_cllr_on_held_out_trials_and_keeps_the_eer(score_lists):
    (dev_scores, dev_targets), (scores, targets) = score_lists
    calibration = backends.fit_calibration(dev_scores, dev_targets)
    ratios = calibration.log_likelihood_ratios(scores)
    assert metrics.log_likelihood_ratio_cost(ratios, targets) < 0.6 * (
        metrics.log_likelihood_ratio_cost(scores, targets)
    )
    best = metrics.minimum_log_likelihood_ratio_cost(scores, targets)
    assert metrics.log_likelihood_ratio_cost(ratios, targets) < best + 0.02
    eer = metrics.equal_error_rate(scores, targets)
    assert metrics.equal_error_rate(ratios, targets) == pytest.approx(eer, abs=1e-12)


def test_calibration_finds_the_true_ratio_and_equals_scikit_learn(score_lists):
    (scores, targets), _ = score_lists
    prior = 0.1
    found = backends.fit_calibration(scores, targets, target_prior=prior)
    # Gaussians 2.5 sigma apart, sigma 0.12: llr = 2.5 (s - 0.35) / 0.12 - 3.125.
    assert found.scale == pytest.approx(2.5 / 0.12, rel=0.08)
    assert found.offset == pytest.approx(-3.125 - 2.5 * 0.35 / 0.12, rel=0.08)
    weights = np.where(targets, prior / targets.sum(), (1 - prior) / (~targets).sum())
    theirs = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(
        scores[:, None], targets, sample_weight=1e5 * weights
    )
    assert found.scale == pytest.approx(theirs.coef_[0, 0], rel=1e-4)
    assert found.offset == pytest.approx(theirs.intercept_[0] - logit(prior), rel=1e-4)


def test_the_stored_threshold_is_the_bayes_threshold_of_the_prior(score_lists, tmp_path):
    (dev_scores, dev_targets), (scores, targets) = score_lists
    calibration = backends.fit_calibration(dev_scores, dev_targets, target_prior=0.05)
    ratios = calibration.log_likelihood_ratios(scores)
    np.testing.assert_array_equal(calibration.accept(scores), ratios >= np.log(19))
    decided = metrics.actual_detection_cost(
        scores, targets, target_prior=0.05, threshold=calibration.threshold
    )
    assert decided == metrics.actual_detection_cost(ratios, targets, target_prior=0.05)
    assert decided < metrics.minimum_detection_cost(scores, targets, target_prior=0.05) + 0.02
    path = tmp_path / "calibration.json"
    calibration.save(path)
    assert backends.load_calibration(path) == calibration
    assert [p.name for p in tmp_path.iterdir()] == ["calibration.json"]
    assert json.loads(path.read_text())["threshold"] == calibration.threshold


def test_calibration_without_an_answer_is_refused(tmp_path):
    with pytest.raises(StudyError, match="separate the trials perfectly"):
        backends.fit_calibration([0.0, 1.0, 2.0, 3.0], [False, False, True, True])
    with pytest.raises(StudyError, match="separate the trials perfectly"):  # but for a tie
        backends.fit_calibration([0.0, 2.0, 2.0, 3.0], [False, False, True, True])
    with pytest.raises(StudyError, match="do not tell targets"):
        backends.fit_calibration([3.0, 2.0, 2.5, 1.0], [False, False, True, True])
    with pytest.raises(StudyError, match="all equal"):
        backends.fit_calibration([1.0, 1.0, 1.0], [False, False, True])
    with pytest.raises(StudyError, match="target and non-target"):
        backends.fit_calibration([1.0, 2.0], [True, True])
    with pytest.raises(StudyError, match="finite score"):
        backends.fit_calibration([1.0, np.nan], [True, False])
    with pytest.raises(StudyError, match="no calibration at"):
        backends.load_calibration(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"scale": 1}')
    with pytest.raises(StudyError, match="does not hold a calibration"):
        backends.load_calibration(tmp_path / "other.json")
