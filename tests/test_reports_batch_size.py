"""The batch-size report: the right runs side by side, with the statistics' own numbers."""

import pytest
from made_up_study import write_study

from studylib.reports.batch_size import size_tables, trained_runs
from studylib.reports.study import read_study
from studylib.statistics.comparisons import holm

ANGULAR, AM = {"name": "angular_prototypical"}, {"name": "am_softmax", "margin": 0.1, "scale": 30}
LARGE = {"speakers_per_batch": 40}
LONG = LARGE | {"crops": 4000, "learning_rate": 0.002}
RUNS = {
    "angular20": {"loss": ANGULAR, "noise": 0.9},
    "angular80": {"loss": ANGULAR, "train": LARGE, "noise": 0.5},
    "angular80_long": {"loss": ANGULAR, "train": LONG, "noise": 0.45},
    "angular_few": {"loss": ANGULAR, "train": {"training_speakers": 30}, "noise": 1.1},
    "am20": {"loss": AM, "noise": 0.7},
    "am80": {"loss": AM, "train": LARGE, "noise": 0.7},
    "am80_wide": {"loss": AM, "train": LARGE, "trunk": {"channels": 256}, "noise": 0.7},
    "triplet": {"loss": {"name": "triplet", "margin": 0.3}, "noise": 0.7},
}


@pytest.fixture
def tables(tmp_path):
    write_study(tmp_path, RUNS)
    study = read_study(tmp_path, "made_up", "batch_size")
    return size_tables(trained_runs(study), trials="test", n_resamples=100)


def test_runs_stand_by_comparison_loss_and_size_with_what_they_really_saw(tables):
    rates, _ = tables
    shown = ["comparison", "run", "size", "steps", "crops", "training_speakers"]
    assert rates[shown].to_numpy().tolist() == [
        ["equal_crops", "am20", 20, 50, 1000, 200],
        ["equal_crops", "am80", 80, 13, 1040, 200],
        ["equal_crops", "angular20", 20, 50, 1000, 200],
        ["equal_crops", "angular80", 80, 13, 1040, 200],
        ["equal_steps", "angular20", 20, 50, 1000, 200],
        ["equal_steps", "angular80_long", 80, 50, 4000, 200],
        ["training_speakers", "angular_few", 30, 50, 1000, 30],
        ["training_speakers", "angular20", 200, 50, 1000, 200],
    ]


def test_each_loss_s_largest_size_is_tested_against_its_smallest_and_holm_spans_all(tables):
    rates, tests = tables
    pairs = [
        ("am80", "am20", 20, 80),
        ("angular80", "angular20", 20, 80),
        ("angular80_long", "angular20", 20, 80),
        ("angular20", "angular_few", 30, 200),
    ]
    shown = tests[["first", "second", "smallest", "largest"]]
    assert list(shown.itertuples(index=False, name=None)) == pairs
    rate = rates.drop_duplicates("run").set_index("run")["rate"]
    changes = [rate[first] / rate[second] - 1 for first, second, *_ in pairs]
    assert tests["difference"].to_list() == pytest.approx(changes)
    assert tests["p_holm"].to_list() == pytest.approx(holm(tests["p"]))
    # The truth put in: noise of 0.5 instead of 0.9 makes fewer errors, 0.7 and 0.7 make as many.
    truth = tests.set_index(["comparison", "loss"]).loc["equal_crops"]
    angular, am = truth.loc[["angular_prototypical", "am_softmax"]].itertuples()
    assert angular.p_holm < 0.05
    assert angular.high < 0
    assert am.low < 0 < am.high
