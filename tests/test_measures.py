"""What is told of a back-end's scores, against sums written out."""

import numpy as np
import pytest

from studylib.evaluation.measures import TrialSides, measure_lists


def trials(rng, n_speakers, shift):
    """All pairs of two utterances a speaker; scores that are no log-likelihood ratios."""
    speakers = np.repeat(np.arange(n_speakers), 2)
    i, j = np.triu_indices(len(speakers), 1)
    targets = speakers[i] == speakers[j]
    scores = 0.1 * (rng.normal(size=len(i)) + 2.5 * targets) + shift
    return scores, TrialSides(targets, speakers[i], speakers[j])


@pytest.fixture(scope="module")
def told():
    rng = np.random.default_rng(0)
    made = {"test": trials(rng, 30, 0.5), "dev": trials(rng, 30, 0.5)}
    lists = {name: sides for name, (_, sides) in made.items()}
    return measure_lists({name: scores for name, (scores, _) in made.items()}, lists, 50), made


def test_calibration_is_learned_on_dev_and_judged_on_the_others(told):
    measured, made = told
    assert "cllr" not in measured["lists"]["dev"]
    calibration, (scores, sides) = measured["calibration"], made["test"]
    test = measured["lists"]["test"]
    llr = calibration["scale"] * scores + calibration["offset"]
    of_targets = np.mean(np.log2(1 + np.exp(-llr[sides.targets])))
    of_others = np.mean(np.log2(1 + np.exp(llr[~sides.targets])))
    assert test["cllr"] == pytest.approx((of_targets + of_others) / 2)
    assert test["min_cllr"] <= test["cllr"] < 0.6


def test_the_actual_cost_is_that_of_the_stored_threshold(told):
    measured, made = told
    scores, sides = made["test"]
    accepted = scores >= measured["calibration"]["threshold"]
    misses, alarms = np.mean(~accepted[sides.targets]), np.mean(accepted[~sides.targets])
    test = measured["lists"]["test"]
    assert test["act_dcf_0.05"] == pytest.approx(misses + 19 * alarms)
    assert test["min_dcf_0.05"] <= test["act_dcf_0.05"]


def test_a_study_without_development_trials_says_that_nothing_was_calibrated(told):
    (scores, sides) = told[1]["test"]
    measured = measure_lists({"test": scores}, {"test": sides}, 50)
    assert measured["calibration"] == {"skipped": "evaluate.trials has no list 'dev'"}
    without = {key for key in told[0]["lists"]["test"] if "cllr" not in key and "act" not in key}
    assert set(measured["lists"]["test"]) == without


def test_scores_that_make_no_error_on_dev_are_told_and_stop_nothing(told):
    (scores, sides) = told[1]["test"]
    lists = {"test": sides, "dev": sides}
    perfect = sides.targets.astype(float)
    measured = measure_lists({"test": scores, "dev": perfect}, lists, 50)
    assert "perfectly" in measured["calibration"]["skipped"]
    assert "cllr" not in measured["lists"]["test"]
