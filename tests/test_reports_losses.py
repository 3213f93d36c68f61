"""From results to the tables of losses.ipynb: what manifests and scores say, and no more."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_up_study import CALIBRATION, write_experiment, write_study

from studylib.errors import StudyError
from studylib.files.atomic import read_json, write_json
from studylib.files.checksums import sha256
from studylib.reports import losses as report
from studylib.reports.study import (
    MEASURES,
    collect_experiments,
    collect_scores,
    collect_variants,
    read_study,
    resample,
)
from studylib.reports.tables import write_report
from studylib.statistics.error_rates import equal_error_rate, log_likelihood_ratio_cost, summary

GE2E, FOUR = {"name": "ge2e"}, {"speakers_per_batch": 5, "utterances_per_speaker": 4}
RUNS = {
    f"am_softmax_m{m}_s{s}": {"loss": {"name": "am_softmax", "margin": m, "scale": s}, "noise": n}
    for m, s, n in [(0.1, 15, 0.7), (0.1, 30, 0.8), (0.2, 15, 0.6), (0.2, 30, 0.9)]
} | {
    "ge2e": {"loss": GE2E, "noise": 0.6},
    "ge2e_m4": {"loss": GE2E, "train": FOUR, "noise": 0.7},
    "ge2e_wide": {"loss": GE2E, "trunk": {"channels": 256}, "noise": 0.5},
    "longer": {"loss": {"name": "triplet", "margin": 0.3}, "train": {"crops": 4000}, "noise": 0.6},
    "untrained": {"loss": {"name": "softmax"}, "train": {"crops": 0}, "noise": 1.3},
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    write_study(tmp_path, RUNS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def experiments(root):
    return collect_experiments(read_study(root, "", "losses"))


@pytest.fixture
def measured(root):
    runs = experiments(root)
    resamples = resample(runs, "test", 20, measures=MEASURES)
    return runs, resamples, report.run_table(runs, resamples)


def test_a_run_is_what_its_manifest_says_whatever_the_parameter_file_says_now(root):
    path = root / "results" / "made_up" / "experiment" / "ge2e-1" / "manifest.json"
    manifest = read_json(path)
    manifest["settings"]["train"] |= {"crops": 9600, "speakers_per_batch": 32, "crop_seconds": 3.0}
    write_json(path, manifest)
    runs = experiments(root)
    assert len(runs) == 2 * len(RUNS) + 1
    assert runs.loc["ge2e-1", ["loss", "seed", "crops", "batch"]].tolist() == ["ge2e", 1, 9600, 64]
    assert runs.loc["am_softmax_m0.2_s15-0", ["margin", "scale"]].tolist() == [0.2, 15]
    assert runs.loc[["untrained-0", "logmel_whitened-0"], "loss"].isna().all()
    others = runs["other_settings"]
    assert others["am_softmax_m0.1_s15-0"] == others["am_softmax_m0.2_s30-1"]
    assert others["ge2e-1"] != others["ge2e-0"]  # by the length of its crops
    assert runs.loc["ge2e_wide-0", "trunk"] == "compact_tdnn channels=256"  # the key that differs
    assert runs.loc["ge2e-0", "trunk"] == "compact_tdnn channels=128"


def test_what_is_missing_or_of_other_trials_is_one_sentence(root):
    with pytest.raises(StudyError, match="plan the study other first"):
        read_study(root, "other", "losses")
    runs = experiments(root)
    path = runs["folder"]["ge2e-0"] / "scores" / "test.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path)
    with pytest.raises(StudyError, match=r"ge2e-0 has other trials"):
        collect_scores(runs, "test")
    (runs["folder"]["ge2e-1"] / "manifest.json").unlink()
    with pytest.raises(StudyError, match="run ge2e-1 first"):
        experiments(root)


def test_what_was_made_otherwise_than_the_rest_is_refused_or_named(root, capsys):
    folder = root / "results" / "made_up" / "experiment" / "ge2e-0"
    plan = folder.parents[1] / "plan" / "experiment" / "ge2e.json"
    plan.parent.mkdir()
    write_json(plan, {"training": "new", "evaluation": "as it was"})
    manifest = read_json(folder / "manifest.json")
    manifest["digests"] = {"training": "old", "evaluation": "as it was"}
    manifest["files"] = {"metrics.json": sha256(folder / "metrics.json"), "not/in/git": "0"}
    write_json(folder / "manifest.json", manifest)
    experiments(root)
    assert "not of the present plan and corpus, run them again: ge2e-0\n" in capsys.readouterr().out
    write_json(folder / "metrics.json", read_json(folder / "metrics.json") | {"changed": 1})
    with pytest.raises(StudyError, match=r"metrics\.json has changed since ge2e-0 was measured"):
        experiments(root)
    write_json(folder / "manifest.json", manifest | {"corpus": {"checksums": {"audio.i16": "0"}}})
    with pytest.raises(StudyError, match=r"ge2e-0 has another corpus than am_softmax_m0"):
        experiments(root)


def test_rates_and_costs_are_means_over_seeds_and_cllr_is_of_calibrated_scores(measured):
    runs, _, table = measured
    trials, scores = collect_scores(runs, "test")
    targets, seeds = trials["target"].to_numpy(), [scores["ge2e-0"], scores["ge2e-1"]]
    eer = np.mean([equal_error_rate(seed, targets) for seed in seeds])
    row = table.loc["ge2e"]
    assert row["rate"] == pytest.approx(eer)
    assert table["rate"].is_monotonic_increasing
    least = [summary(seed, targets)["min_dcf_0.05"] for seed in seeds]
    assert row["min_dcf_0.05"] == pytest.approx(np.mean(least))
    ratios = [CALIBRATION["scale"] * seed + CALIBRATION["offset"] for seed in seeds]
    cllr = np.mean([log_likelihood_ratio_cost(ratio, targets) for ratio in ratios])
    assert row["cllr"] == pytest.approx(cllr)
    assert row["cllr_low"] < cllr < row["cllr_high"]
    without = report.run_table(runs.assign(cllr=None), measured[1])
    assert without["cllr"].isna().all()
    printed = report.printed_table(table).loc["ge2e"]
    assert printed[["run", "EER (%)"]].tolist() == ["GE2E", f"{100 * eer:.2f}"]
    assert printed["Cllr (bits)"] == f"{cllr:.2f}"


def test_a_variant_stands_beside_its_parent_on_the_same_resamples(root):
    study = read_study(root, "", "losses")
    runs = collect_experiments(study)
    assert collect_variants(study).empty
    entry = {"loss": {"name": "ge2e"}, "noise": 0.9}
    by_hand = study.folder / "variants" / "ge2e+crops=2000-0"
    write_experiment(by_hand, "ge2e", 0, entry, rng=[50, 0], variant="crops=2000")
    outdated = study.folder / "variants" / "of_another_corpus-0"
    write_experiment(outdated, "ge2e", 0, entry, corpus={"source": "another"})
    variants = collect_variants(study)
    both = pd.concat([runs[["folder"]], variants[["folder"]]])
    table = report.variant_table(runs, variants, resample(both, "test", 20)["eer"])
    (row,) = table.reset_index(names="variant").to_dict("records")
    trials, scores = collect_scores(both, "test")
    own = equal_error_rate(scores["variants/ge2e+crops=2000-0"], trials["target"].to_numpy())
    parent = runs[runs["run"] == "ge2e"]["eer"].mean()
    assert (row["variant"], row["run"]) == ("variants/ge2e+crops=2000-0", "ge2e")
    assert row["EER"] == pytest.approx(own)
    assert row["difference"] == pytest.approx(own / parent - 1)


def test_the_run_that_stands_for_a_loss_is_chosen_on_development_speakers(root):
    trained = report.at_the_common_budget(experiments(root))
    assert "longer" not in set(trained["run"])
    trained = trained.assign(eer_dev=1 - trained["eer"])  # the worst on test trials
    chosen = report.chosen_runs(trained).set_index(["trunk", "loss"])
    settings = trained[trained["loss"] == "am_softmax"].groupby("run")["eer"].mean()
    narrow = "compact_tdnn channels=128"
    assert chosen.loc[(narrow, "am_softmax"), ["run", "tried"]].tolist() == [settings.idxmax(), 4]
    assert chosen.loc[(narrow, "ge2e"), ["run", "tried"]].tolist() == ["ge2e", 1]  # bears its name
    assert chosen.loc[("compact_tdnn channels=256", "ge2e"), "run"] == "ge2e_wide"  # the only one
    judged = report.runs_to_judge(trained, chosen.reset_index())
    assert set(judged.loc[judged["chosen"], "cell"]) == set(chosen["run"])
    assert set(judged.loc[judged["cell"] == settings.idxmin(), "tried"]) == {1}
    assert "am_softmax" not in set(report.chosen_runs(trained.assign(eer_dev=np.nan))["loss"])


def test_what_a_study_varies_is_found(measured):
    runs, _, table = measured
    trained = report.at_the_common_budget(runs)
    found = report.varied(trained, table)
    grid = found["margin"].set_index(["margin", "size"])
    assert set(grid.index) == set(product(("0.1", "0.2"), (15, 30)))
    assert grid.loc[("0.2", 15), "rate"] == table.loc["am_softmax_m0.2_s15", "rate"]
    assert dict(found["loss"][["run", "size"]].to_numpy()) == {"ge2e": 2, "ge2e_m4": 4}
    alone = trained[~trained["run"].isin(["ge2e_m4", "am_softmax_m0.1_s15"])]
    assert "loss" not in report.varied(alone, table)


def test_a_report_is_its_tables_with_six_digits_and_what_they_come_from(root):
    sources = read_study(root, "", "losses").sources(experiments(root)["folder"])
    write_report("out", {"eer": pd.DataFrame({"eer": [0.123456789]})}, {"none": None}, sources)
    assert {path.name for path in (root / "out").iterdir()} == {"eer.csv", "manifest.json"}
    assert (root / "out" / "eer.csv").read_text() == "eer\n0.123457\n"
    assert read_json(root / "out" / "manifest.json")["experiments"]["ge2e-1"] == {}
