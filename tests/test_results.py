"""From folders of metrics and scores to frames and tables."""

import json

import numpy as np
import pandas as pd
import pytest
from made_up import all_trials
from studylib.reports.results import (
    backend_table,
    cells_by_run,
    collect_runs,
    collect_scores,
    markdown,
    measure_table,
    resample,
    study_manifest,
    write_tables,
)

from studylib.errors import StudyError
from studylib.pipeline.params import Params
from studylib.statistics.error_rates import log_likelihood_ratio_cost, minimum_detection_cost

RUNS = {
    f"am_m{margin}_s{scale}": {"loss": {"name": "am_softmax", "margin": margin, "scale": scale}}
    for margin in (0.1, 0.2)
    for scale in (15, 30)
} | {
    "triplet": {"loss": {"name": "triplet", "margin": 0.3, "hard_fraction": 1.0}},
    "untrained": {"loss": {"name": "softmax"}, "train": {"crops": 0}},
}


@pytest.fixture
def params():
    return Params(
        study={"name": "s", "runs": list(RUNS), "seeds": [0, 1], "baselines": ["logmel_whitened"]},
        corpus={"name": "c", "source": "embedded"},
        trunk={"name": "compact_tdnn"},
        train={"crops": 100, "speakers_per_batch": 4, "utterances_per_speaker": 2},
        evaluate={"trials": ["test", "dev"]},
        runs=RUNS,
    )


@pytest.fixture
def root(tmp_path, params):
    """Made-up results: 6 speakers x 4 utterances, all pairs, random scores."""
    rng = np.random.default_rng(0)
    trials = all_trials(6, 4)
    named = [(run, seed) for run in RUNS for seed in (0, 1)] + [("logmel_whitened", 0)]
    for index, (run, seed) in enumerate(named):
        folder = tmp_path / "results" / "s" / "evaluate" / f"{run}-{seed}"
        (folder / "scores").mkdir(parents=True)
        scores = trials.assign(score=trials["target"] + rng.normal(size=len(trials)))
        scores.to_parquet(folder / "scores" / "test.parquet")
        eer = 0.01 * (index + 1)
        lists = {"test": {"eer": eer}, "dev": {"eer": 1 - eer}}
        metrics = {"eer": eer, "eer_interval": [0.0, 0.5], "trials": "test", "lists": lists}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return tmp_path


def test_every_run_and_seed_is_one_row_with_what_it_was_trained_by(root, params):
    runs = collect_runs(root, params)
    assert len(runs) == 2 * len(RUNS) + 1
    assert runs.loc["am_m0.2_s15-1", ["loss", "seed", "batch", "margin", "scale"]].tolist() == [
        "am_softmax", 1, 8, 0.2, 15,
    ]  # fmt: skip
    assert runs.loc[["untrained-0", "logmel_whitened-0"], "loss"].isna().all()


def test_runs_of_a_loss_that_differ_in_something_else_say_so(root, params):
    told = collect_runs(root, params)["other_settings"]
    assert told["am_m0.1_s15-0"] == told["am_m0.2_s30-1"]
    changes = {
        "am_m0.1_s15": {"train": {"crop_seconds": 3.0}},
        "triplet": {"loss": {"name": "triplet", "margin": 0.3, "hard_fraction": 0.5}},
    }
    other = params.runs | {k: params.runs[k].model_copy(update=v) for k, v in changes.items()}
    now = collect_runs(root, params.model_copy(update={"runs": other}))["other_settings"].fillna("")
    assert set(now.index[now != told.fillna("")]) == {
        f"{run}-{seed}" for run in changes for seed in (0, 1)
    }


def test_detection_costs_and_cllr_have_intervals_and_cllr_is_of_calibrated_scores(root, params):
    for name in ("triplet-0", "triplet-1"):
        path = root / "results" / "s" / "evaluate" / name / "metrics.json"
        calibration = {"scale": 2.0, "offset": -3.0, "target_prior": 0.05, "threshold": 3.0}
        told = json.loads(path.read_text()) | {"cllr": 0.5, "calibration": calibration}
        path.write_text(json.dumps(told))
    runs = collect_runs(root, params)
    table = measure_table(runs, "test", 20)
    assert set(table["run"][table["measure"] == "cllr"]) == {"triplet"}
    assert table.groupby("measure")["value"].is_monotonic_increasing.all()
    assert (table["low"] < table["value"]).all()
    trials, scores = collect_scores(runs, "test")
    targets, of_seeds = trials["target"].to_numpy(), [scores[f"triplet-{k}"] for k in (0, 1)]
    values = table[table["run"] == "triplet"].set_index("measure")["value"]
    costs = [minimum_detection_cost(s, targets, target_prior=0.05) for s in of_seeds]
    assert values["min_dcf_0.05"] == pytest.approx(np.mean(costs))
    cllrs = [log_likelihood_ratio_cost(2 * s - 3, targets) for s in of_seeds]
    assert values["cllr"] == pytest.approx(np.mean(cllrs))


def test_a_trunk_of_another_width_is_another_trunk(root, params):
    own = {"triplet": {"channels": 16}, "am_m0.1_s15": {"name": "compact_tdnn"}}
    changed = {run: params.runs[run].model_copy(update={"trunk": own[run]}) for run in own}
    trunks = collect_runs(root, params.model_copy(update={"runs": params.runs | changed}))["trunk"]
    assert trunks["triplet-0"] == "compact_tdnn channels=16"
    assert trunks["am_m0.1_s15-0"] == trunks["am_m0.2_s15-0"] == "compact_tdnn"


def test_a_run_that_was_not_evaluated_is_named(root, params):
    (root / "results" / "s" / "evaluate" / "triplet-1" / "metrics.json").unlink()
    with pytest.raises(StudyError, match="evaluate the run triplet, seed 1, first"):
        collect_runs(root, params)


def test_a_missing_manifest_is_one_sentence_that_names_it(root, params):
    with pytest.raises(StudyError, match=r"train/am_m0.1_s15-0/manifest.json does not exist"):
        study_manifest(root, params, collect_runs(root, params))


def test_scores_of_other_trials_are_refused(root, params):
    runs = collect_runs(root, params)
    path = root / "results" / "s" / "evaluate" / "triplet-0" / "scores" / "test.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path)
    with pytest.raises(StudyError, match=r"triplet-0.* other trials"):
        collect_scores(runs, "test")


def test_a_cell_is_the_mean_over_the_seeds_of_a_run(root, params):
    runs = collect_runs(root, params)
    resamples = resample(runs, "test", 20)
    cells = cells_by_run(runs, resamples)
    rates = dict(zip(resamples.runs, resamples.estimates, strict=True))
    expected = (rates["triplet-0"] + rates["triplet-1"]) / 2
    assert np.exp(cells.estimates[cells.names.index("triplet")]) == pytest.approx(expected)


def test_tables_are_written_in_three_forms(tmp_path):
    table = pd.DataFrame({"run": ["a_b"], "eer": [0.12345], "seeds": [3], "none": [None]})
    assert markdown(table) == "| run | eer | seeds | none |\n| --- | --- | --- | --- |\n" + (
        "| a_b | 0.123 | 3 |  |\n"
    )
    write_tables(table, tmp_path / "out", "eer")
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "out" / "eer.csv")[["run", "eer", "seeds"]],
        table[["run", "eer", "seeds"]],
    )
    assert r"a\_b & 0.123 & 3" in (tmp_path / "out" / "eer.tex").read_text()


def test_back_ends_stand_side_by_side_as_means_over_seeds(root, params):
    for seed in (0, 1):
        path = root / "results" / "s" / "evaluate" / f"triplet-{seed}" / "metrics.json"
        metrics = json.loads(path.read_text()) | {"backend": "plda", "cllr": 0.2 + 0.2 * seed}
        further = {"cosine": {"calibration": {}, "lists": {"test": {"eer": 0.5}}}}
        path.write_text(json.dumps(metrics | {"further_backends": further, "calibration": {}}))
    runs = collect_runs(root, params)
    assert runs.groupby("run")["backend"].first()[["am_m0.1_s15", "triplet"]].tolist() == [
        "cosine", "plda",
    ]  # fmt: skip
    table = backend_table(runs)
    triplet = table.loc["triplet"]
    assert triplet["eer_plda"] == pytest.approx(runs.loc[["triplet-0", "triplet-1"], "eer"].mean())
    assert triplet[["eer_cosine", "cllr"]].tolist() == pytest.approx([0.5, 0.3])
    assert np.isnan(table.loc["untrained", "eer_plda"])  # plain, as written before back-ends
    assert table.loc["untrained", "eer_cosine"] == pytest.approx(0.115)
