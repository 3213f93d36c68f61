"""The batch-size report: the right runs side by side, with the statistics' own numbers."""

import numpy as np
import pandas as pd
import pytest
from made_up_study import write_study

from studylib.reports.batch_size import size_tables, trained_runs
from studylib.reports.losses import chosen_runs, runs_to_judge
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
    pairs = [("am80", "am20"), ("angular80", "angular20"), ("angular80_long", "angular20")]
    pairs += [("angular20", "angular_few")]
    assert list(zip(tests["first"], tests["second"], strict=True)) == pairs
    assert tests["smallest"].tolist() == [20, 20, 20, 30]
    assert tests["largest"].tolist() == [80, 80, 80, 200]
    rate = rates.drop_duplicates("run").set_index("run")["rate"]
    changes = [rate[first] / rate[second] - 1 for first, second in pairs]
    assert tests["difference"].to_list() == pytest.approx(changes)
    assert tests["p_holm"].to_list() == pytest.approx(holm(tests["p"]))
    # The truth put in: noise of 0.5 instead of 0.9 makes fewer errors, 0.7 and 0.7 make as many.
    truth = tests.set_index(["comparison", "loss"]).loc["equal_crops"]
    angular, am = truth.loc[["angular_prototypical", "am_softmax"]].itertuples()
    assert angular.p_holm < 0.05
    assert angular.high < 0
    assert am.low < 0 < am.high


# batch -> learning rate -> EER on development speakers of the two seeds: the lowest mean by hand.
ON_DEV = {
    20: {0.001: (0.10, 0.20), 0.002: (0.16, 0.16), 0.008: (0.12, 0.14), 0.016: (0.01, 0.01)},
    80: {0.001: (0.30, 0.30), 0.002: (0.09, 0.21), 0.008: (0.20, 0.11)},
    200: {0.001: (0.20, 0.20), 0.002: (0.30, 0.10), 0.008: (0.20, 0.19)},
}
CHOSEN = {"20_0.008": 0.008, "80_0.002": 0.002, "200_0.008": 0.008}  # not all sizes tried 0.016
FEW = {"training_speakers": 30, "learning_rate": 0.002}


@pytest.fixture
def several_rates(tmp_path):
    """A study of ON_DEV, and of 30 training speakers with one rate; in it are other EERs."""
    entries, on_dev = {"few": {"loss": ANGULAR, "train": FEW, "noise": 0.9}}, {"few": (0.4, 0.4)}
    for batch, eers in ON_DEV.items():
        for rate, of_seeds in eers.items():
            train = {"speakers_per_batch": batch // 2, "learning_rate": rate}
            entries[f"{batch}_{rate}"] = {"loss": ANGULAR, "train": train, "noise": 0.7}
            on_dev[f"{batch}_{rate}"] = of_seeds
    write_study(tmp_path, entries)
    runs = trained_runs(read_study(tmp_path, "made_up", "batch_size"))
    pairs = zip(runs["run"], runs["seed"], strict=True)
    return runs.assign(eer_dev=[on_dev[run][seed] for run, seed in pairs])


def test_the_learning_rate_of_a_size_is_chosen_on_development_speakers_alone(several_rates):
    keys = {"trials": "test", "n_resamples": 20}
    rates, _ = size_tables(several_rates, **keys)
    shown = rates[["comparison", "run", "learning_rate", "tried"]].to_numpy().tolist()
    by_batch = [["equal_crops", run, rate, 3] for run, rate in CHOSEN.items()]
    # Training speakers were varied at one rate only.
    by_speakers = [["training_speakers", run, 0.002, 1] for run in ("few", "20_0.002")]
    assert shown == by_batch + by_speakers
    for number, folder in enumerate(several_rates["folder"]):  # other scores on the test list
        path = folder / "scores" / "test.parquet"
        trials = pd.read_parquet(path)
        other = np.random.default_rng(number).normal(size=len(trials))
        trials.assign(score=other).to_parquet(path)
    again, _ = size_tables(several_rates, **keys)
    assert (again["rate"] != rates["rate"]).all()
    assert again["run"].to_list() == rates["run"].to_list()
    one_list, _ = size_tables(several_rates.assign(eer_dev=np.nan), **keys)
    assert len(one_list) == 10 + 5  # nothing to choose on: all


def test_cells_to_judge_say_from_how_many_learning_rates_they_were_chosen(several_rates):
    judged = runs_to_judge(several_rates, chosen_runs(several_rates))
    standing = judged[judged["rates"] > 0].groupby("cell")["rates"].first().to_dict()
    assert standing == {"20_0.016": 4, "80_0.002": 3, "200_0.008": 3, "few": 1}
