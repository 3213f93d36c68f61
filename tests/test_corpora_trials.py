"""Trial recipes against closed-form counts and plain loops; lists from files; splits."""

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest

from studylib.corpora.recordings import Splits
from studylib.corpora.report import Report
from studylib.corpora.trials import (
    TrialList,
    all_pairs,
    cross_session,
    make_trials,
    per_speaker,
    read_trial_list,
    same_sex,
)
from studylib.errors import StudyError

# Utterances of each test speaker; speakers are interleaved below.
COUNTS = {"a": 5, "b": 3, "c": 1, "d": 4}
SEX = {"a": "f", "b": "m", "c": "f", "d": "f"}
TABLE = pd.DataFrame(
    [("z0", "z", "z", "train", "m")]
    + [
        (f"{speaker}{number}", speaker, f"{speaker}-{number // 2}", "test", SEX[speaker])
        for number in range(5)
        for speaker in COUNTS
        if number < COUNTS[speaker]
    ],
    columns=["id", "speaker", "session", "split", "sex"],
)


def as_set(trials):
    return set(zip(trials["first"].astype(str), trials["second"].astype(str), strict=True))


def check_form(trials):
    assert list(trials.columns) == ["first", "second", "target"]
    pairs = list(zip(trials["first"].astype(str), trials["second"].astype(str), strict=True))
    assert trials["target"].tolist() == [one[0] == two[0] for one, two in pairs]
    unordered = {frozenset(pair) for pair in pairs}
    assert len(unordered) == len(trials)
    assert all(len(pair) == 2 for pair in unordered)


@pytest.mark.parametrize(
    ("recipe", "keep"),
    [
        (all_pairs, lambda one, two: True),
        (same_sex, lambda one, two: one["sex"] == two["sex"]),
        (
            cross_session,
            lambda one, two: one["speaker"] != two["speaker"] or one["session"] != two["session"],
        ),
    ],
)
def test_a_recipe_keeps_the_pairs_that_a_plain_loop_keeps(recipe, keep):
    trials = recipe(TABLE, "test")
    check_form(trials)
    rows = TABLE[TABLE["split"] == "test"].to_dict("records")
    pairs = combinations(rows, 2)
    assert as_set(trials) == {(one["id"], two["id"]) for one, two in pairs if keep(one, two)}


def test_nobody_has_the_same_sex_as_a_speaker_of_unknown_sex():
    for unknown in (None, "", np.nan):
        table = TABLE.assign(sex=TABLE["sex"].astype(object))
        table.loc[table["speaker"].isin(["b", "c"]), "sex"] = unknown
        ids = same_sex(table, "test")[["first", "second"]].astype(str).to_numpy().ravel()
        assert {name[0] for name in ids} == {"a", "d"}


@pytest.mark.parametrize("n", [1, 3, 50])
def test_per_speaker_gives_n_targets_where_there_are_as_many(n):
    first, again, other = (
        per_speaker(TABLE, "test", n, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    check_form(first)
    of_speaker = first[first["target"]]["first"].astype(str).str[0].value_counts()
    for speaker, count in COUNTS.items():
        assert of_speaker.get(speaker, 0) == min(n, comb(count, 2))
    assert n <= (~first["target"]).sum() <= n * len(COUNTS)
    assert as_set(first) == as_set(again)
    assert n == 50 or as_set(first) != as_set(other)


def test_a_list_without_targets_an_empty_split_and_a_missing_column_are_named():
    lists = {"t": TrialList(recipe="cross_session")}
    with pytest.raises(StudyError, match="'t' has no target trial"):
        make_trials(lists, TABLE.assign(session="x"), Report())
    with pytest.raises(StudyError, match="'dev'"):
        all_pairs(TABLE, "dev")
    with pytest.raises(StudyError, match="'sex'"):
        same_sex(TABLE.drop(columns="sex"), "test")


# Lists from files.

GOOD = ["1 a0 a1", "0 a0 b0"]
FAULTS = {
    "1 a0 a9": "the utterance a9 is not in the corpus",
    "2 a0 a2": "expected '<0 or 1> <utterance> <utterance>'",
    "1 a0 a0": "an utterance is compared with itself",
    "0 a0 a2": "the label 0 contradicts the speakers",
    "1 a0 b1": "the label 1 contradicts the speakers",
    "0 a0 z0": "the utterance z0 is one to train on",
    "1 a0 a1": "the pair is already in line 1",
    "1 a1 a0": "the pair is already in line 1",
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_bad_trial_is_named_by_its_line_or_skipped_and_reported(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text("\n".join([GOOD[0], "", line, GOOD[1]]))
    with pytest.raises(StudyError) as caught:
        read_trial_list(path, TABLE, Report())
    assert str(caught.value).startswith(f"{path}, line 3: {FAULTS[line]}")
    report = Report(keep_going=True)
    trials = read_trial_list(path, TABLE, report)
    assert trials["target"].tolist() == [True, False]
    assert [what for what, _ in report.skipped] == [f"{path}, line 3"]
    if "already" in FAULTS[line]:
        assert len(TrialList(file=path, repeats=True).trials(TABLE, Report())) == 3


def test_a_list_may_have_a_byte_order_mark_backslashes_tabs_and_windows_line_ends(tmp_path):
    path, table = tmp_path / "list.txt", TABLE.assign(id="x/" + TABLE["id"])
    path.write_bytes(b"\xef\xbb\xbf1 x\\a0 x\\a1\r\n0\tx/a0\tx/b0\r\n")
    assert as_set(read_trial_list(path, table, Report())) == {("x/a0", "x/a1"), ("x/a0", "x/b0")}
    path.write_bytes(b"\xff\xfe1")
    with pytest.raises(StudyError, match=r"list\.txt cannot be read"):
        read_trial_list(path, table, Report())


# Splits.

MANY = [f"speaker{number}" for number in range(251)]


def test_speakers_are_drawn_with_a_seed_by_number_or_share():
    splits = Splits(test=51).assign(MANY, Report())
    assert pd.Series(splits).value_counts().to_dict() == {"train": 200, "test": 51}
    assert splits == Splits(test=51).assign(reversed(MANY), Report())
    assert splits != Splits(test=51, seed=1).assign(MANY, Report())
    shares = pd.Series(Splits(dev=0.1, test=0.2).assign(MANY, Report()))
    assert shares.value_counts().to_dict() == {"train": 176, "test": 50, "dev": 25}
    with pytest.raises(StudyError, match="expected 251 speakers at most in dev and test"):
        Splits(dev=100, test=200).assign(MANY, Report())


def test_a_list_of_splits_is_read_and_checked(tmp_path):
    splits = Splits(file=tmp_path / "splits.csv")
    splits.file.write_text("speaker,split\nanna,train\nbert,test\n")
    expected = {"anna": "train", "bert": "test"}
    assert splits.assign(["anna", "bert", "carl"], Report()) == expected
    for line, fault in {
        "Bert,test": "speaker 'Bert' has no recordings",
        "anna,test": "speaker 'anna' is in two splits",
        "bert,exam": "split 'exam' is not one of train, dev, test",
    }.items():
        splits.file.write_text(f"speaker,split\nanna,train\n{line}\n")
        with pytest.raises(StudyError, match=rf"splits\.csv, line 3: {fault}"):
            splits.assign(["anna", "bert"], Report())
