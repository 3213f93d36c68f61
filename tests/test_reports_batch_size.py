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
    study = read_study(tmp_path, "made_up", "batch_size")
    runs = compared_runs(study)
    return runs, *size_tables(runs, study, trials="test", n_resamples=100)


def test_runs_stand_by_comparison_loss_and_size_with_what_they_really_saw(tables):
    _, rates, _ = tables
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
    runs, _, tests = tables
    cells = cells_by_run(runs, resample(runs, "test", 100)["eer"])
    pairs = [
        ("am80", "am20", 20, 80),
        ("angular80", "angular20", 20, 80),
        ("angular80_long", "angular20", 20, 80),
        ("angular20", "angular_few", 30, 200),
    ]
    contrasts = [cells.difference(*pair[:2]) for pair in pairs]
    shown = tests[["first", "second", "smallest", "largest"]]
    assert list(shown.itertuples(index=False, name=None)) == pairs
    assert tests["difference"].to_list() == pytest.approx([np.expm1(c.value) for c in contrasts])
    assert tests["p_holm"].to_list() == pytest.approx(holm([c.p_value() for c in contrasts]))
    # The truth put in: noise of 0.5 instead of 0.9 makes fewer errors, 0.7 and 0.7 make as many.
    truth = tests.set_index(["comparison", "loss"]).loc["equal_crops"]
    angular, am = truth.loc[["angular_prototypical", "am_softmax"]].itertuples()
    assert angular.p_holm < 0.05
    assert angular.high < 0
    assert am.low < 0 < am.high


@pytest.mark.parametrize(
    ("lists", "sentence"),
    [
        ({"equal_crops": ["am40"]}, r"equal_crops names the run 'am40'; did you mean 'am80'"),
        ({"equal_crops": ["angular20", "angular_few"]}, "differ in training_speakers: runs of one"),
        ({"equal_crops": ["angular80_long", "am20"]}, "angular80_long and am20 differ in crops"),
        ({"equal_steps": ["angular20", "angular80"]}, "angular20 and angular80 differ in steps"),
    ],
)
def test_runs_that_do_not_belong_together_are_one_sentence(lists, sentence):
    corpus, trunk = {"name": "c", "source": "embedded"}, {"name": "compact_tdnn"}
    runs = {
        name: RunSettings(
            study="s",
            name=name,
            corpus=corpus,
            loss=entry["loss"],
            trunk=trunk,
            train=TRAIN | entry.get("train", {}),
        )
        for name, entry in RUNS.items()
    }
    check_batch_size(BatchSizeRuns(**COMPARED), runs)
    with pytest.raises(StudyError, match=sentence):
        check_batch_size(BatchSizeRuns(**lists), runs)
