"""The bootstrap against lists written out in full, and intervals against what they promise."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from studylib.errors import StudyError
from studylib.statistics import error_rates, resampling
from studylib.statistics.comparisons import error_table, holm, paired_tests, speakers_needed
from studylib.statistics.intervals import Cells, Contrast, cells_of, speaker_df, speaker_variance
from studylib.statistics.resampling import bootstrap
from studylib.statistics.trials import trial_speakers

MEASURES = {
    "eer": error_rates.equal_error_rate,
    "cllr": error_rates.log_likelihood_ratio_cost,
    "min_dcf_0.01": lambda s, t: error_rates.summary(s, t)["min_dcf_0.01"],
    "min_dcf_0.05": lambda s, t: error_rates.summary(s, t)["min_dcf_0.05"],
}


def trial_list(n_speakers, utterances, per_pair, generator):
    """All target pairs and `per_pair` random nontarget pairs of each two speakers."""
    i, j = np.triu_indices(utterances, 1)
    of_targets = np.repeat(np.arange(n_speakers) * utterances, len(i))
    targets = np.stack([of_targets + np.tile(i, n_speakers), of_targets + np.tile(j, n_speakers)])
    pairs = np.repeat(np.stack(np.triu_indices(n_speakers, 1)), per_pair, axis=1)
    others = pairs * utterances + generator.integers(0, utterances, pairs.shape)
    first, second = np.concatenate([targets, others], axis=1)
    return first, second, first // utterances == second // utterances


def simulated(n_speakers, utterances, per_pair, generator, *, separation=3.2, systems=1):
    """Scores with effects of speakers, pairs, utterances and trials; systems share half of each.

    A target scores separation + a_s, a nontarget b_s + b_t + c_st; both have the effects of their
    two utterances and their own noise. Returns scores (systems, T), targets and both speakers.
    """
    first, second, targets = trial_list(n_speakers, utterances, per_pair, generator)
    one, other = first // utterances, second // utterances

    def effect(sd, *shape):
        own = generator.normal(size=(systems, *shape))
        return sd * np.sqrt(0.5) * (generator.normal(size=shape) + own)

    of_target = separation + effect(0.6, n_speakers)[:, one]
    b, c = effect(0.4, n_speakers), effect(0.3, n_speakers, n_speakers)
    of_nontarget = b[:, one] + b[:, other] + c[:, one, other]
    session, noise = effect(0.3, n_speakers * utterances), effect(0.8, len(targets))
    scores = np.where(targets, of_target, of_nontarget)
    return scores + session[:, first] + session[:, second] + noise, targets, one, other


def true_eer(separation=3.2):
    """Both kinds of score are Gaussian: the EER is Phi(-separation / sum of their deviations)."""
    shared = 2 * 0.3**2 + 0.8**2
    sds = np.sqrt(0.6**2 + shared) + np.sqrt(2 * 0.4**2 + 0.3**2 + shared)
    return stats.norm.cdf(-separation / sds)


@pytest.mark.parametrize("rounded", [None, 0, -3])
def test_every_resample_equals_the_list_with_its_trials_repeated(rounded, monkeypatch):
    if rounded is None:  # several small blocks of resamples, or one
        monkeypatch.setattr(resampling, "BLOCK", 1)
    scores, targets, one, other = simulated(9, 4, 6, np.random.default_rng(0), systems=2)
    scores = scores if rounded is None else np.round(scores, rounded)  # ties; then all equal
    runs, sides = dict(zip("ab", scores, strict=True)), (one, other)
    found = bootstrap(runs, targets, *sides, measures=tuple(MEASURES), n_resamples=40, seed=5)
    counts = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9), size=40)
    for measure, plain in MEASURES.items():
        for run, of_run in enumerate(scores):
            assert found[measure].estimates[run] == pytest.approx(plain(of_run, targets), abs=1e-12)
            for resample, count in enumerate(counts):
                times = np.where(targets, count[one], count[one] * count[other])
                expected = plain(np.repeat(of_run, times), np.repeat(targets, times))
                assert found[measure].speakers[run, resample] == pytest.approx(expected, abs=1e-12)


def interval_of_one(scores, *trials, n_resamples=50):
    resamples = bootstrap({"a": scores}, *trials, n_resamples=n_resamples)["eer"]
    return error_table(cells_of(resamples, {"a": ["a"]})).loc["a"]


def test_speakers_may_be_named_and_trials_may_come_in_any_order():
    (scores,), targets, one, other = simulated(12, 4, 3, np.random.default_rng(2))
    names = np.array([f"id{k:05d}" for k in range(12)])
    order = np.random.default_rng(3).permutation(len(scores))
    shuffled = scores[order], targets[order], names[other[order]], names[one[order]]
    pd.testing.assert_series_equal(
        interval_of_one(*shuffled), interval_of_one(scores, targets, one, other)
    )


def test_resamples_are_the_same_whatever_runs_and_measures_are_read():
    scores, targets, one, other = simulated(30, 10, 8, np.random.default_rng(4), systems=2)
    sides = targets, one, other
    runs = {"a": scores[0], "b": scores[1]}
    together = bootstrap(runs, *sides, measures=tuple(MEASURES), n_resamples=70, seed=7)
    for measure in MEASURES:
        alone = bootstrap({"b": scores[1]}, *sides, measures=[measure], n_resamples=70, seed=7)
        for part in ("speakers", "pairs"):
            both, single = getattr(together[measure], part), getattr(alone[measure], part)
            np.testing.assert_array_equal(both[1], single[0])


def test_no_resample_is_without_an_error_rate_on_the_smallest_list():
    targets = np.array([True, False, False])
    interval = interval_of_one([2.0, 3.0, 1.0], targets, [0, 0, 1], [0, 1, 2], n_resamples=1000)
    assert np.isfinite(interval[["low", "high"]]).all()


def test_the_noise_of_a_pair_of_speakers_is_counted_once():
    # The mean of b_s + b_t + c_st over all pairs has variance 4 var(b) / S + var(c) / P.
    generator, n_speakers = np.random.default_rng(5), 30
    one, other = np.triu_indices(n_speakers, 1)
    speakers = np.concatenate([np.arange(n_speakers), one])
    others = np.concatenate([np.arange(n_speakers), other])
    trials = trial_speakers(speakers == others, speakers, others)
    for sd_speaker, sd_pair in ((1.0, 0.0), (0.3, 1.0), (0.0, 1.0)):
        variances, plain = [], []
        for study in range(60):
            b = sd_speaker * generator.normal(size=n_speakers)
            values = b[one] + b[other] + sd_pair * generator.normal(size=len(one))
            means = []
            for kind in (resampling.speaker_resamples, resampling.pair_perturbations):
                weights = next(kind(trials, 300, study))[n_speakers:]
                means.append(values @ weights / weights.sum(axis=0))
            variances.append(speaker_variance(*means, n_speakers, taken_out=2))
            plain.append(np.var(means[0]))
        true = 4 * sd_speaker**2 / n_speakers + sd_pair**2 / len(one)
        if sd_speaker:
            assert np.mean(variances) == pytest.approx(true, rel=0.15)
        else:  # the floor, the pair noise itself, errs on the safe side
            assert true < np.mean(variances) < 1.4 * true
            assert np.mean(plain) > 2.5 * true


def test_the_degrees_of_freedom_are_those_of_a_variance_of_numbers_of_kurtosis_5():
    # A mixture of two normal distributions of variances 1 + c and 1 - c has kurtosis 3 (1 + c^2).
    generator, n, c = np.random.default_rng(0), 400, np.sqrt(2 / 3)
    variances = 1 + c * generator.choice([-1, 1], size=(5000, n))
    found = np.var(np.sqrt(variances) * generator.normal(size=(5000, n)), axis=1, ddof=1)
    assert 2 / np.var(found) == pytest.approx(speaker_df(n), rel=0.1)


def cells_with(
    estimates, speaker_sd, seed_sds, n_seeds, *, interactions=0.0, resamples=200_000, seed=0
):
    """Cells of 41 speakers whose speaker noise is independent and of the given size."""
    noise = np.random.default_rng(seed).normal(size=(len(estimates), resamples))
    noise *= speaker_sd * np.sqrt(40 / 41)
    return Cells(
        names=tuple("abcdefghijkl"[: len(estimates)]),
        estimates=np.array(estimates),
        speakers=np.array(estimates)[:, None] + noise,
        pairs=np.zeros((len(estimates), 3)),
        n_seeds=np.array(n_seeds),
        seed_sds=np.array(seed_sds),
        interactions=np.array(interactions),
        n_speakers=41,
        floor=1e-6,
    )


def test_speaker_variance_and_seed_variance_stand_apart_and_add_up():
    cells = cells_with([-2.0, -2.2, -2.1], 0.05, [0.03, 0.05, np.nan], [3, 3, 1])
    pooled = np.sqrt((2 * 0.03**2 + 2 * 0.05**2) / 4)
    assert cells.pooled_seeds == pytest.approx((pooled, 4))
    difference = cells.difference("a", "c")
    assert difference.value == pytest.approx(0.1)
    assert difference.speaker_sd == pytest.approx(0.05 * np.sqrt(2), rel=0.01)
    assert difference.seed_sd == pytest.approx(pooled * np.sqrt(1 / 3 + 1))
    of_speakers, of_seeds = difference.speaker_sd**2, difference.seed_sd**2
    assert difference.sd**2 == pytest.approx(of_speakers + of_seeds)
    df = (of_speakers + of_seeds) ** 2 / (of_speakers**2 / 20 + of_seeds**2 / 4)
    assert difference.df == pytest.approx(df)


def test_without_repeated_seeds_the_interval_is_that_of_the_speakers_alone():
    single = cells_with([-2.0], 0.1, [np.nan], [1]).contrast({"a": 1.0})
    assert np.isnan(single.seed_sd)
    expected = stats.t.interval(0.95, 20, -2.0, single.speaker_sd)
    assert single.interval() == pytest.approx(expected)


def test_the_p_value_is_the_level_at_which_the_interval_touches_zero():
    difference = cells_with([-2.0, -2.2], 0.1, [0.04, 0.06], [3, 3]).contrast({"a": 1, "b": -1})
    p = difference.p_value()
    assert 0.01 < p < 0.9
    assert difference.interval(1 - p)[0] == pytest.approx(0, abs=1e-12)
    assert p == pytest.approx(2 * stats.t.sf(difference.value / difference.sd, difference.df))


def test_what_test_speakers_add_to_the_spread_of_seeds_is_taken_out_of_it():
    cells = cells_with([-2.0, -2.2], 0.05, [0.05, 0.05], [3, 3], interactions=[0.0009, 0.0009])
    assert cells.pooled_seeds == pytest.approx((0.04, 4 * (0.04 / 0.05) ** 4))
    nothing_left = cells_with([-2.0], 0.05, [0.05], [3], interactions=[0.003])
    single = nothing_left.contrast({"a": 1.0})
    assert (single.seed_sd, single.df) == (0, speaker_df(41))


def test_seeds_of_equal_networks_spread_by_the_test_speakers_alone():
    spread, of_speakers = [], []
    for study in range(40):
        scores, *trials = simulated(30, 6, 2, np.random.default_rng([7, study]), systems=3)
        runs = dict(enumerate(scores))
        resamples = bootstrap(runs, *trials, n_resamples=200, seed=study)
        cells = cells_of(resamples["eer"], {"a": list(runs)})
        spread.append(cells.seed_sds[0] ** 2)
        of_speakers.append(cells.interactions[0])
    assert np.mean(of_speakers) == pytest.approx(np.mean(spread), rel=0.25)


def test_seed_spread_of_cells_equals_the_within_mean_square_of_an_analysis_of_variance():
    scores, *trials = simulated(12, 4, 3, np.random.default_rng(6), systems=6)
    resamples = bootstrap(dict(enumerate(scores)), *trials, n_resamples=20)["eer"]
    cells = cells_of(resamples, {"a": [0, 1, 2], "b": [3, 4, 5]})
    logs = np.log(resamples.estimates).reshape(2, 3)
    within = np.sum((logs - logs.mean(axis=1, keepdims=True)) ** 2) / 4
    assert np.mean(cells.seed_sds**2) == pytest.approx(within)
    table = error_table(cells)
    assert table.loc["a", "rate"] == pytest.approx(resamples.estimates[:3].mean())
    assert table.loc["a", "seed_sd"] == pytest.approx(logs[0].std(ddof=1))


def test_a_list_without_errors_gets_the_interval_zero_to_what_its_speakers_can_exclude():
    (scores,), targets, one, other = simulated(40, 4, 1, np.random.default_rng(7), separation=40)
    interval = interval_of_one(scores, targets, one, other)
    assert (interval["rate"], interval["low"]) == (0, 0)
    assert (1 - interval["high"]) ** 40 == pytest.approx(0.05)


def test_intervals_over_speakers_cover():
    # A small version of benchmarks/coverage.py.
    covered, false_alarms = [], []
    for study in range(60):
        generator = np.random.default_rng([11, study])
        scores, *trials = simulated(40, 7, 2, generator, systems=2)
        runs = {"a": scores[0], "b": scores[1]}
        resamples = bootstrap(runs, *trials, n_resamples=200, seed=study)["eer"]
        cells = cells_of(resamples, {"a": ["a"], "b": ["b"]})
        interval = error_table(cells).loc["a"]
        covered.append(interval["low"] <= true_eer() <= interval["high"])
        false_alarms.append(cells.difference("a", "b").p_value() < 0.05)
    assert np.mean(covered) >= 0.88
    assert np.mean(false_alarms) < 0.12


def test_holm_equals_its_definition_step_by_step():
    p_values = np.random.default_rng(8).random(30) ** 3
    ranked = sorted(p_values)
    steps = [(30 - step) * p for step, p in enumerate(ranked)]
    expected = [min(1, max(steps[: ranked.index(p) + 1])) for p in p_values]
    np.testing.assert_allclose(holm(p_values), expected)
    assert holm([]).shape == (0,)


def test_paired_tests_give_relative_differences_and_correct_the_family():
    cells = cells_with([np.log(0.05), np.log(0.04), np.log(0.08)], 0.1, [np.nan] * 3, [1] * 3)
    table = paired_tests(cells, combinations("abc", 2))
    np.testing.assert_allclose(table["difference"], [0.05 / 0.04 - 1, 0.05 / 0.08 - 1, -0.5])
    np.testing.assert_allclose(table["p_holm"], holm(table["p"]))
    assert (table["low"] < table["difference"]).all()
    assert (table["difference"] < table["high"]).all()


def test_a_value_that_hardly_varies_has_a_short_interval_however_little_is_known_of_seeds():
    contrast = Contrast(0.0, speaker_sd=1e-9, seed_sd=1e-4, n_speakers=41, seed_df=1e-3)
    low, high = contrast.interval()
    assert -0.002 < low < 0 < high < 0.002  # 12.7 standard deviations


def test_with_the_speakers_needed_the_interval_ends_at_the_bound():
    contrast = Contrast(0.1, speaker_sd=0.2, seed_sd=0.03, n_speakers=40, seed_df=8)
    needed = speakers_needed(contrast)
    sd = np.hypot(0.2 * np.sqrt(40 / needed), 0.03)
    assert stats.t.ppf(0.975, contrast.df) * sd == pytest.approx(0.1, rel=0.01)
    seeds_alone = Contrast(0.1, speaker_sd=0.2, seed_sd=0.06, n_speakers=40, seed_df=8)
    assert speakers_needed(seeds_alone) == np.inf


def test_trials_that_cannot_be_resampled_are_refused_in_a_sentence():
    (scores,), targets, one, other = simulated(5, 3, 2, np.random.default_rng(9))
    with pytest.raises(StudyError, match="Trial 0 of the speakers 0 and 0 is marked nontarget"):
        bootstrap({"a": scores}, ~targets, one, other)
    with pytest.raises(StudyError, match="at least 3 speakers"):
        bootstrap({"a": scores[targets]}, targets[targets], one[targets], other[targets])
