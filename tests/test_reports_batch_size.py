"""The batch-size report: the right runs side by side, with the statistics' own numbers."""

import numpy as np
import pytest
from made_up_study import TRAIN, write_study

from studylib.errors import StudyError
from studylib.reports.batch_size import compared_runs, size_tables
from studylib.reports.settings import BatchSizeRuns, check_batch_size
from studylib.reports.study import cells_by_run, read_study, resample
from studylib.statistics.comparisons import holm
from studylib.training.settings import RunSettings

ANGULAR, AM = {"name": "angular_prototypical"}, {"name": "am_softmax", "margin": 0.1, "scale": 30}
LARGE = {"speakers_per_batch": 40}
RUNS = {
    "angular20": {"loss": ANGULAR, "noise": 0.9},
    "angular80": {"loss": ANGULAR, "train": LARGE, "noise": 0.5},
    "angular80_long": {
        "loss": ANGULAR,
        "train": LARGE | {"crops": 4000, "learning_rate": 0.002},
        "noise": 0.45,
    },
    "angular_few": {"loss": ANGULAR, "train": {"training_speakers": 30}, "noise": 1.1},
    "am20": {"loss": AM, "noise": 0.7},
    "am80": {"loss": AM, "train": LARGE, "noise": 0.7},
    "triplet": {"loss": {"name": "triplet", "margin": 0.3}, "noise": 0.7},
}
COMPARED = {
    "equal_crops": ["angular80", "am20", "angular20", "am80"],
    "equal_steps": ["angular20", "angular80_long"],
    "training_speakers": ["angular20", "angular_few"],
}


@pytest.fixture
def tables(tmp_path):
    write_study(tmp_path, RUNS, settings={"batch_size": COMPARED})
    compared, runs = compared_runs(read_study(tmp_path, "made_up", "batch_size"))
    return runs, *size_tables(runs, compared, trials="test", n_resamples=100)


def test_runs_stand_by_comparison_loss_and_size_with_what_they_really_saw(tables):
    _, rates, _ = tables
    shown = ["comparison", "loss", "run", "size", "steps", "crops", "training_speakers"]
    assert rates[shown].to_numpy().tolist() == [
        ["equal_crops", "angular_prototypical", "angular20", 20, 50, 1000, 200],
        ["equal_crops", "angular_prototypical", "angular80", 80, 13, 1040, 200],
        ["equal_crops", "am_softmax", "am20", 20, 50, 1000, 200],
        ["equal_crops", "am_softmax", "am80", 80, 13, 1040, 200],
        ["equal_steps", "angular_prototypical", "angular20", 20, 50, 1000, 200],
        ["equal_steps", "angular_prototypical", "angular80_long", 80, 50, 4000, 200],
        ["training_speakers", "angular_prototypical", "angular_few", 30, 50, 1000, 30],
        ["training_speakers", "angular_prototypical", "angular20", 200, 50, 1000, 200],
    ]


def test_each_loss_s_largest_size_is_tested_against_its_smallest_and_holm_spans_all(tables):
    runs, _, tests = tables
    cells = cells_by_run(runs, resample(runs, "test", 100)["eer"])
    pairs = [
        ("angular80", "angular20", 20, 80),
        ("am80", "am20", 20, 80),
        ("angular80_long", "angular20", 20, 80),
        ("angular20", "angular_few", 30, 200),
    ]
    contrasts = [cells.contrast({largest: 1.0, least: -1.0}) for largest, least, *_ in pairs]
    assert tests[["smallest", "largest"]].to_numpy().tolist() == [list(p[2:]) for p in pairs]
    assert tests["difference"].to_list() == pytest.approx([np.expm1(c.value) for c in contrasts])
    assert tests["p_holm"].to_list() == pytest.approx(holm([c.p_value() for c in contrasts]))
    # The truth put in: noise of 0.5 instead of 0.9 makes fewer errors, 0.7 and 0.7 make as many.
    truth = tests.set_index(["comparison", "loss"]).loc["equal_crops"]
    angular, am = truth.loc[["angular_prototypical", "am_softmax"]].itertuples()
    assert angular.p_holm < 0.05
    assert angular.high < 0
    assert am.low < 0 < am.high


@pytest.mark.parametrize(
    ("lists", "changes", "sentence"),
    [
        ({"equal_crops": ["am40"]}, {}, r"equal_crops names the run 'am40'; did you mean 'am80'"),
        ({"equal_crops": ["am20", "am20"]}, {}, "am20 and am20 are of one size"),
        (
            {"equal_crops": ["am20", "am80"]},
            {"am80": {"loss": AM | {"margin": 0.2}}},
            "am20 and am80 differ in loss: expected runs of one loss that differ in nothing but",
        ),
        (
            {"equal_crops": ["angular80", "am20"]},
            {"am20": {"train": {"crops": 2000}}},
            "runs of equally many crops, not angular80 1,000, am20 2,000",
        ),
        (
            {"equal_steps": ["angular20", "angular80"]},
            {},
            "runs of equally many steps, not angular20 50, angular80 13",
        ),
    ],
)
def test_runs_that_do_not_belong_together_are_one_sentence(lists, changes, sentence):
    runs = {
        name: RunSettings(
            study="s",
            name=name,
            corpus={"name": "c", "source": "embedded"},
            loss=entry["loss"],
            trunk={"name": "compact_tdnn"},
            train=TRAIN | entry.get("train", {}),
        )
        for name, entry in ((name, RUNS[name] | changes.get(name, {})) for name in RUNS)
    }
    with pytest.raises(StudyError, match=sentence):
        check_batch_size(BatchSizeRuns(**lists), runs)
