"""From results to the tables of losses.ipynb: what manifests and scores say, and no more."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from made_up_study import CALIBRATION, write_experiment, write_study

from studylib.errors import StudyError
from studylib.files.atomic import read_json, write_json
from studylib.reports.chosen_runs import (
    at_the_common_budget,
    by_utterances,
    chosen_runs,
    main_trunk,
    margins_and_scales,
    runs_to_judge,
)
from studylib.reports.losses import (
    cost_table,
    eer_table,
    measured,
    paired_differences,
    printed_table,
    sentences,
    trunk_costs,
    variant_table,
)
from studylib.reports.study import (
    cells_by_run,
    collect_experiments,
    collect_scores,
    collect_variants,
    read_study,
    resample,
    trial_lists,
)
from studylib.reports.tables import markdown, write_report
from studylib.statistics.error_rates import (
    equal_error_rate,
    log_likelihood_ratio_cost,
    summary,
)

RUNS = {
    f"am_softmax_m{margin}_s{scale}": {
        "loss": {"name": "am_softmax", "margin": margin, "scale": scale},
        "noise": noise,
    }
    for (margin, scale), noise in zip(product((0.1, 0.2), (15, 30)), (0.7, 0.8, 0.6, 0.9))  # noqa: B905
} | {
    "ge2e": {"loss": {"name": "ge2e"}, "noise": 0.6},
    "ge2e_m4": {
        "loss": {"name": "ge2e"},
        "train": {"speakers_per_batch": 5, "utterances_per_speaker": 4},
        "noise": 0.7,
    },
    "ge2e_wide": {"loss": {"name": "ge2e"}, "trunk": {"channels": 256}, "noise": 0.5},
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


def folder(root, name):
    return root / "results" / "made_up" / "experiment" / name


def test_a_run_is_what_its_manifest_says_whatever_the_parameter_file_says_now(root):
    path = folder(root, "ge2e-1") / "manifest.json"
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
    assert trial_lists(read_study(root, "", "losses")) == ["test", "test_hard", "dev"]


def test_trunks_are_told_apart_by_the_numbers_that_differ(root):
    trunks = experiments(root)["trunk"]
    assert trunks["ge2e_wide-0"] == "compact_tdnn channels=256"
    assert trunks["ge2e-0"] == trunks["untrained-0"] == "compact_tdnn channels=128"
    assert main_trunk(experiments(root)) == "compact_tdnn channels=128"


def test_what_is_missing_is_one_sentence(root):
    with pytest.raises(StudyError, match="plan the study other first"):
        read_study(root, "other", "losses")
    (folder(root, "ge2e-1") / "manifest.json").unlink()
    with pytest.raises(StudyError, match="run ge2e-1 first"):
        experiments(root)


def test_scores_of_other_trials_are_refused(root):
    path = folder(root, "ge2e-0") / "scores" / "test.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path)
    with pytest.raises(StudyError, match=r"ge2e-0.* other trials"):
        collect_scores(experiments(root), "test")


def test_rates_and_costs_are_means_over_seeds_and_cllr_is_of_calibrated_scores(root):
    runs = experiments(root)
    resamples = resample(runs, "test", 20, measures=measured(runs))
    table, costs = eer_table(runs, resamples), cost_table(runs, resamples)
    trials, scores = collect_scores(runs, "test")
    targets, seeds = trials["target"].to_numpy(), [scores["ge2e-0"], scores["ge2e-1"]]
    eers = [equal_error_rate(seed, targets) for seed in seeds]
    assert table.loc["ge2e", "rate"] == pytest.approx(np.mean(eers))
    assert table["rate"].is_monotonic_increasing
    values = costs[costs["run"] == "ge2e"].set_index("measure")["value"]
    least = [summary(seed, targets)["min_dcf_0.05"] for seed in seeds]
    assert values["min_dcf_0.05"] == pytest.approx(np.mean(least))
    ratios = [CALIBRATION["scale"] * seed + CALIBRATION["offset"] for seed in seeds]
    cllrs = [log_likelihood_ratio_cost(ratio, targets) for ratio in ratios]
    assert values["cllr"] == pytest.approx(np.mean(cllrs))
    printed = printed_table(table, costs).loc["ge2e"]
    assert printed[["run", "EER (%)"]].tolist() == ["GE2E", f"{100 * np.mean(eers):.2f}"]
    assert printed["Cllr (bits)"] == f"{np.mean(cllrs):.3f}"


def test_further_back_ends_stand_beside_the_headline(root):
    for seed, eer in ((0, 0.5), (1, 0.3)):
        path = folder(root, f"ge2e-{seed}") / "details.json"
        further = {"snorm": {"lists": {"test": {"eer": eer}}}}
        write_json(path, read_json(path) | {"further_backends": further})
    runs = experiments(root)
    table = eer_table(runs, resample(runs, "test", 20))
    assert table["backend_snorm"].dropna().to_dict() == {"ge2e": pytest.approx(0.4)}


def test_a_variant_stands_beside_its_parent_on_the_same_resamples(root):
    study = read_study(root, "", "losses")
    runs = collect_experiments(study)
    none = collect_variants(study)
    both = pd.concat([runs[["folder"]], none[["folder"]]])
    assert variant_table(runs, none, resample(both, "test", 20)["eer"]).empty
    entry = {"loss": {"name": "ge2e"}, "noise": 0.9}
    by_hand = study.folder / "variants" / "ge2e+crops=2000-0"
    write_experiment(by_hand, "ge2e", 0, entry, rng=[50, 0], variant="crops=2000")
    variants = collect_variants(study)
    both = pd.concat([runs[["folder"]], variants[["folder"]]])
    (row,) = variant_table(runs, variants, resample(both, "test", 20)["eer"]).to_dict("records")
    trials, scores = collect_scores(both, "test")
    own = equal_error_rate(scores["variants/ge2e+crops=2000-0"], trials["target"].to_numpy())
    parent = runs[runs["run"] == "ge2e"]["eer"].mean()
    assert row["variant"] == "ge2e+crops=2000-0"
    assert row["run"] == "ge2e"
    assert row["EER (%)"] == f"{100 * own:.2f}"
    assert row["difference (%)"] == f"{100 * (own / parent - 1):+.1f}"


def test_the_run_that_stands_for_a_loss_is_chosen_on_development_speakers(root):
    runs = experiments(root)
    trained = at_the_common_budget(runs)
    assert "longer" not in set(trained["run"])
    trained = trained.assign(eer_dev=1 - trained["eer"])  # the worst on test trials
    chosen = chosen_runs(trained).set_index(["trunk", "loss"])
    settings = trained[trained["loss"] == "am_softmax"].groupby("run")["eer"].mean()
    narrow = "compact_tdnn channels=128"
    assert chosen.loc[(narrow, "am_softmax"), ["run", "tried"]].tolist() == [settings.idxmax(), 4]
    assert chosen.loc[(narrow, "ge2e"), ["run", "tried"]].tolist() == ["ge2e", 1]  # bears its name
    assert chosen.loc[("compact_tdnn channels=256", "ge2e"), "run"] == "ge2e_wide"  # the only one
    judged = runs_to_judge(trained, chosen.reset_index())
    assert set(judged.loc[judged["chosen"], "cell"]) == set(chosen["run"])
    assert set(judged.loc[judged["cell"] == settings.idxmin(), "tried"]) == {1}
    with pytest.raises(StudyError, match="am_softmax: none is chosen, as the numbers of seeds"):
        chosen_runs(trained.drop(index="am_softmax_m0.1_s15-0"))
    assert "am_softmax" not in set(chosen_runs(trained.drop(columns="eer_dev"))["loss"])


def test_what_a_study_varies_is_found(root):
    runs = experiments(root)
    trained = at_the_common_budget(runs)
    table = eer_table(runs, resample(runs, "test", 20))
    grid = margins_and_scales(trained, table)
    assert set(zip(grid["margin"], grid["scale"], strict=True)) == {
        (0.1, 15), (0.1, 30), (0.2, 15), (0.2, 30),
    }  # fmt: skip
    assert grid.loc["am_softmax_m0.2_s15", "rate"] == table.loc["am_softmax_m0.2_s15", "rate"]
    assert by_utterances(trained, table)[["run", "size"]].to_numpy().tolist() == [
        ["ge2e", 2], ["ge2e_m4", 4],
    ]  # fmt: skip
    costs = trunk_costs(trained, table).set_index("run")
    assert set(costs.index) == {"ge2e", "ge2e_m4", "ge2e_wide"}
    assert costs.loc["ge2e_wide", "parameters"] > costs.loc["ge2e", "parameters"]
    assert trunk_costs(trained[trained["run"] != "ge2e_wide"], table).empty


def test_each_two_trained_runs_are_compared_the_better_first(root):
    runs = experiments(root)
    resamples = resample(runs, "test", 20)
    table = eer_table(runs, resamples)
    tests = paired_differences(runs, table, resamples["eer"])
    assert len(tests) == 8 * 7 / 2
    assert (table["rate"][tests["first"]].to_numpy() <= table["rate"][tests["second"]]).all()
    contrast = cells_by_run(runs, resamples["eer"]).contrast({"ge2e_wide": 1, "ge2e_m4": -1})
    row = tests.query("first == 'ge2e_wide' and second == 'ge2e_m4'")
    assert row["difference"].item() == pytest.approx(np.expm1(contrast.value))


def test_conclusions_are_sentences_with_names_in_print():
    row = {"id": "B3", "claim": "GE2E beats triplet.", "verdict": "supported"}
    row |= {"evidence": "ge2e against angular_prototypical: -9 %", "missing": "one of triplet"}
    assert sentences(pd.DataFrame([row])) == (
        "- **B3, supported.** *GE2E beats triplet.* GE2E against Angular prototypical: -9 %; "
        "needs one of Triplet.\n"
    )


def test_a_report_is_written_where_out_says_and_nowhere_else(root):
    study = read_study(root, "", "losses")
    table = pd.DataFrame({"run": ["a_b"], "eer": [0.12345], "seeds": [3], "none": [None]})
    assert markdown(table) == "| run | eer | seeds | none |\n| --- | --- | --- | --- |\n" + (
        "| a_b | 0.123 | 3 |  |\n"
    )
    before = sorted(root.rglob("*"))
    write_report("", study, experiments(root), {"eer": table}, {})
    assert sorted(root.rglob("*")) == before
    write_report("results/out", study, experiments(root), {"eer": table}, {"none": None})
    out = root / "results" / "out"
    assert {path.name for path in out.iterdir()} == {"eer.csv", "eer.md", "manifest.json"}
    assert pd.read_csv(out / "eer.csv")["eer"].tolist() == [0.12345]
