"""The report on trunks: who is better where, from noise that was put in."""

import pytest
from made_up_study import write_study

from studylib.files.atomic import write_json
from studylib.reports.study import collect_experiments, read_study, resample
from studylib.reports.trunks import compare_trunks

AAM, ANGULAR = {"name": "aam_softmax", "margin": 0.3, "scale": 15}, {"name": "angular_prototypical"}
WIDE, LONG = {"channels": 256}, {"crops": 4000}
RUNS = {
    "narrow_aam": {"loss": AAM, "noise": 0.5},
    "narrow_angular": {"loss": ANGULAR, "noise": 1.0},
    "wide_aam": {"loss": AAM, "trunk": WIDE, "noise": 1.0},
    "wide_angular": {"loss": ANGULAR, "trunk": WIDE, "noise": 0.5},
}
LONGER = {f"{run}_long": entry | {"train": LONG, "noise": 0.7} for run, entry in RUNS.items()}


def compared(root, runs):
    write_study(root, runs)
    for folder in root.glob("results/*/experiment"):  # as `pipeline.experiment` writes it
        (folder.parent / "timing").mkdir()
        write_json(folder.parent / "timing" / f"{next(iter(runs))}-0.json", {"seconds": 12.5})
    experiments = collect_experiments(read_study(root, "", "losses"))
    return compare_trunks(experiments, resample(experiments, "test", 100)["eer"])


def test_a_ranking_that_turns_round_depends_on_the_trunk(tmp_path):
    several = RUNS | dict(list(LONGER.items())[:3])
    rates, tests, text = compared(tmp_path, several)
    assert rates["run"].tolist() == list(RUNS)  # three runs at other crops share no pair of losses
    assert rates["size"].nunique() == 2
    assert rates["seconds"].iloc[0] == 12.5
    assert rates["seconds"].iloc[1:].isna().all()
    rate = rates.set_index("run")["rate"]
    truth = [rate[f"{trunk}_aam"] / rate[f"{trunk}_angular"] - 1 for trunk in ("narrow", "wide")]
    assert tests["difference"].to_list() == pytest.approx(truth)
    assert "on 1 of 2 trunks [1, 1]" in text
    assert "better on 1 and worse on 1: their ranking depends on the trunk" in text


def test_a_study_without_two_losses_on_two_trunks_has_no_such_section(tmp_path):
    rates, _, text = compared(tmp_path, {name: RUNS[name] for name in ("narrow_aam", "wide_aam")})
    assert rates.empty
    assert not text
