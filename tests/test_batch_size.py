"""The batch-size report: the right runs side by side, with the statistics' own numbers."""

import json
import math

import matplotlib
import numpy as np
import pandas as pd
import pytest
from made_up import all_trials
from studylib.pipeline.report_runs import batch_size_runs
from studylib.reports.results import cells_by_run, collect_runs, resample
from studylib.statistics.verdicts import verdicts

from studylib.errors import StudyError
from studylib.pipeline.params import Params
from studylib.reports import figures
from studylib.reports.batch_size import named_runs, size_tables
from studylib.reports.chosen_runs import runs_to_judge
from studylib.statistics.comparisons import holm
from studylib.statistics.intervals import eer_interval

matplotlib.use("Agg")
TRAIN = {"crops": 1000, "speakers_per_batch": 10, "utterances_per_speaker": 2}
# run -> loss, what it trains with, and how far apart the made-up scores of the two classes lie
RUNS = {
    "angular20": ("angular_prototypical", {}, 1.5),
    "angular80": ("angular_prototypical", {"speakers_per_batch": 40}, 3.0),
    "angular80_long": (
        "angular_prototypical",
        {"speakers_per_batch": 40, "crops": 4000, "learning_rate": 0.002},
        3.2,
    ),
    "angular_few": ("angular_prototypical", {"training_speakers": 30}, 1.0),
    "am20": ("am_softmax", {}, 2.0),
    "am80": ("am_softmax", {"speakers_per_batch": 40}, 2.0),
    "triplet": ("triplet", {}, 2.0),
}
NUMBERS = {
    "am_softmax": {"margin": 0.1, "scale": 30},
    "triplet": {"margin": 0.3, "hard_fraction": 1.0},
}
REPORT = {
    "equal_crops": ["angular80", "am20", "angular20", "am80"],
    "equal_steps": ["angular20", "angular80_long"],
    "training_speakers": ["angular20", "angular_few"],
}


def study(report=None, changes=(), seeds=(0, 1)):
    runs = {
        run: {"loss": {"name": loss} | NUMBERS.get(loss, {}), "train": train}
        for run, (loss, train, _) in RUNS.items()
    }
    for run, section, value in changes:
        runs[run] = runs[run] | {section: runs[run].get(section, {}) | value}
    return Params(
        study={
            "name": "s",
            "runs": list(RUNS),
            "seeds": list(seeds),
            "baselines": ["logmel_whitened"],
        },
        corpus={"name": "c", "source": "embedded"},
        trunk={"name": "compact_tdnn"},
        train=TRAIN,
        evaluate={},
        report={} if report is None else {"batch_size": report},
        runs=runs,
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Made-up results of 16 speakers x 4 utterances, all pairs; normal scores."""
    root, rng = tmp_path_factory.mktemp("study"), np.random.default_rng(0)
    trials = all_trials(16, 4)
    for run, (_, train, distance) in (RUNS | {"logmel_whitened": (None, {}, 0.5)}).items():
        settings = TRAIN | train
        batch = settings["speakers_per_batch"] * settings["utterances_per_speaker"]
        steps = math.ceil(settings["crops"] / batch)
        for seed in (0, 1):
            folder = root / "results" / "s" / "evaluate" / f"{run}-{seed}"
            (folder / "scores").mkdir(parents=True)
            scores = distance * trials["target"] + rng.normal(size=len(trials))
            trials.assign(score=scores).to_parquet(folder / "scores" / "test.parquet")
            metrics = {"eer": 0.1, "eer_interval": [0, 1], "lists": {"test": {"eer": 0.1}}}
            (folder / "metrics.json").write_text(json.dumps(metrics))
            folder = root / "results" / "s" / "train" / f"{run}-{seed}"
            folder.mkdir(parents=True)
            seen = {"steps": steps, "crops": steps * batch}
            seen["training_speakers"] = settings.get("training_speakers", 200)
            (folder / "manifest.json").write_text(json.dumps(seen))
    return root


def tables(root, params):
    compared = batch_size_runs(params)
    runs = named_runs(root, params, compared)
    return runs, *size_tables(runs, compared, trials="test", n_resamples=100)


def test_runs_stand_by_comparison_loss_and_size_with_what_they_really_saw(root):
    _, rates, _ = tables(root, study(REPORT))
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


def test_the_interval_of_one_seed_is_that_of_its_scores_alone(root):
    _, rates, _ = tables(root, study({"equal_crops": ["am20", "am80"]}, seeds=(1,)))
    for row in rates.itertuples():
        path = root / "results" / "s" / "evaluate" / f"{row.run}-1" / "scores" / "test.parquet"
        scores = pd.read_parquet(path)
        alone = eer_interval(
            scores["score"],
            scores["target"],
            scores["first_speaker"].to_numpy(str),
            scores["second_speaker"].to_numpy(str),
            n_resamples=100,
        )
        found = [row.rate, row.low, row.high]
        assert found == pytest.approx([alone.estimate, alone.low, alone.high], rel=1e-12)


def test_each_loss_s_largest_size_is_tested_against_its_smallest_and_holm_spans_all(root):
    params = study(REPORT)
    runs, _, tests = tables(root, params)
    cells = cells_by_run(runs, resample(runs, "test", 100))
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
    # The truth put in: a distance of 3 instead of 1.5 makes fewer errors, 2 and 2 make as many.
    truth = tests.set_index(["comparison", "loss"])
    angular, am = truth.loc["equal_crops"].loc[["angular_prototypical", "am_softmax"]].itertuples()
    assert angular.p_holm < 0.01
    assert angular.high < 0
    assert am.low < 0 < am.high


@pytest.mark.parametrize("report", [None, {}, {"equal_crops": ["am20"]}])
def test_a_study_of_no_or_one_size_has_tables_of_the_same_columns_without_tests(root, report):
    _, rates, tests = tables(root, study(report))
    _, full_rates, full_tests = tables(root, study(REPORT))
    assert set(rates.columns) == set(full_rates.columns)
    assert list(tests.columns) == list(full_tests.columns)
    assert len(rates) == bool(report)
    assert tests.empty


@pytest.mark.parametrize(
    ("report", "changes", "sentence"),
    [
        ({"equal_crops": ["am40"]}, (), r"equal_crops names the run 'am40'; did you mean 'am80'"),
        ({"equal_crops": ["am20", "am20"]}, (), "am20 and am20 are of one size"),
        ({"training_speakers": ["am20", "am80"]}, (), "differ in train.speakers_per_batch"),
        (
            {"equal_crops": ["am20", "am80"]},
            [("am80", "loss", {"margin": 0.2})],
            "am20 and am80 differ in loss: expected runs of one loss that differ in nothing but",
        ),
        (
            {"equal_crops": ["angular20", "angular80_long"]},
            (),
            "differ in train.crops",
        ),
        (
            {"equal_crops": ["angular80", "am20"]},
            [("am20", "train", {"crops": 2000})],
            "runs of equally many crops, not angular80 1,000, am20 2,000",
        ),
        (
            {"equal_steps": ["angular20", "angular80"]},
            (),
            "runs of equally many steps, not angular20 50, angular80 13",
        ),
    ],
)
def test_runs_that_do_not_belong_together_are_one_sentence(report, changes, sentence):
    with pytest.raises(StudyError, match=sentence):
        batch_size_runs(study(report, changes))


def test_runs_at_equal_steps_do_not_keep_the_other_conclusions_from_being_judged(root):
    params = study(REPORT)
    runs = collect_runs(root, params)
    lists = {"test": resample(runs, "test", 100)}
    with pytest.raises(StudyError, match="equal numbers of training crops"):
        verdicts(runs_to_judge(runs), lists)
    judged = runs_to_judge(runs, without=batch_size_runs(params).at_other_budgets)
    assert "angular80_long" not in set(judged["cell"])
    claim = verdicts(judged, lists).set_index("id").loc["B6"]
    assert claim["missing"] == "prototypical with at least 2 values of batch"
    assert "angular_prototypical, each doubling of batch: -" in claim["evidence"]
    assert "am_softmax, each doubling of batch" in claim["evidence"]


def test_each_comparison_has_a_panel_with_its_sizes_and_a_loss_one_mark(root):
    runs, rates, _ = tables(root, study(REPORT))
    figure = figures.eer_by_batch(rates, runs, list_name="test")
    figure.canvas.draw()
    crops, steps = figure.axes
    assert [label.get_text() for label in crops.get_xticklabels()] == ["20\n50", "80\n13"]
    assert [label.get_text() for label in steps.get_xticklabels()] == ["20\n1,000", "80\n4,000"]
    assert [axes.get_title() for axes in figure.axes] == ["At equal crops seen", "At equal steps"]
    lines = {line.get_label(): line for line in crops.lines if line.get_linestyle() == "-"}
    assert set(lines) == {"angular_prototypical", "am_softmax"}
    assert len({line.get_marker() for line in lines.values()}) == 2
    expected = rates.query("comparison == 'equal_crops' and loss == 'am_softmax'")["rate"]
    assert lines["am_softmax"].get_ydata() == pytest.approx(100 * expected.to_numpy())
    one = figures.eer_by_batch(rates[:4], runs, list_name="test")
    assert len(one.axes) == 1
    speakers = figures.eer_by_speakers(rates, runs, list_name="test")
    assert [label.get_text() for label in speakers.axes[0].get_xticklabels()] == ["30", "200"]
    utterances = rates[:4].assign(size=[2, 5, 2, 5])
    figure = figures.eer_by_utterances(utterances, runs, list_name="test")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2", "5"]
    drawn = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert len(drawn) == utterances["loss"].nunique()
    matplotlib.pyplot.close("all")
