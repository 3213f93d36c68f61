"""Further test sets in losses.ipynb: a copy of the study's own set agrees with it in everything."""

import shutil

import pandas as pd
import pytest
from made_up_study import CALIBRATION, write_study

from studylib.files.atomic import read_json, write_json
from studylib.reports import test_sets as report
from studylib.reports.study import collect_experiments, read_study, resample


@pytest.fixture
def read(tmp_path, monkeypatch):
    """A study measured on a copy of its test set, in which each speaker has one session."""
    monkeypatch.chdir(tmp_path)
    study = write_study(tmp_path)
    for folder in sorted(study.glob("experiment/*")):
        there = shutil.copytree(folder, folder / "also" / "copy")
        utterances = pd.read_parquet(there / "utterances.parquet")
        utterances.assign(session=utterances["speaker"]).to_parquet(there / "utterances.parquet")
        details = read_json(there / "details.json")
        details["calibration"] = CALIBRATION | {"corpus": "c"}
        details["lists"]["test"] |= {"cllr": 1.4, "min_cllr": 0.3, "act_dcf_0.05": 0.9}
        write_json(there / "details.json", details)
        manifest = read_json(folder / "manifest.json")
        manifest["settings"]["evaluate"]["also"] = ["copy"]
        write_json(folder / "manifest.json", manifest)
    plan = read_study(tmp_path, "", "losses")
    runs = collect_experiments(plan)
    sets = report.on_test_sets(plan, runs)
    rates = report.resample_sets(sets, resample(runs, "test", 20)["eer"], 20)
    return runs, sets, rates, report.test_set_table(sets, rates)


def test_a_copy_has_the_same_rates_and_the_same_ranking(read):
    runs, _, rates, table = read
    own, copy = (part.set_index("run") for _, part in table.groupby("test_set", sort=False))
    pd.testing.assert_series_equal(own["rate"], copy["rate"])
    assert (rates["c"].speakers != rates["copy"].speakers).any()  # resampled independently
    assert (copy["logmel_whitened"] == own.loc["logmel_whitened", "rate"]).all()
    losses = ["softmax", "aam_softmax", "triplet"]
    (row,) = report.agreement_table(runs, losses, rates).to_dict("records")
    assert (row["test_set"], row["spearman"]) == ("copy", pytest.approx(1.0))
    assert report.agreement_table(runs, losses[:2], rates).empty
    wide = report.side_by_side(table)
    assert list(wide.columns) == ["c", "copy"]
    assert wide.loc["Triplet", "copy"].startswith(f"{100 * copy.loc['triplet', 'rate']:.2f} [")


def test_sentences_follow_the_numbers(read):
    _, sets, _, table = read
    numbers = {"test_set": "copy", "spearman": 0.5, "pairs_kept": 0.7}
    words = {"agrees": (0.1, 0.9), "not shown": (-0.1, 0.9), "contradicts": (-0.9, -0.1)}
    for word, (low, high) in words.items():
        agreement = pd.DataFrame([numbers | {"low": low, "high": high}])
        text = report.sentences(sets, table, agreement)
        assert f"copy, ranking: {word}" in text
    assert "copy, calibration: does not travel.** Learned on c, it costs 1.400 bits" in text
    assert "copy, channel: one recording a speaker**" in text
    assert "c, channel" not in text
    own = {"c": sets["c"]}
    alone = table[table["test_set"] == "c"]
    assert report.sentences(own, alone, agreement[:0]) == "- No further set was heard.\n"
