"""Trial recipes against closed-form counts and plain loops."""

from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
import pytest

from studylib.corpora.trials import (
    all_pairs,
    cross_session,
    per_speaker,
    same_sex,
)
from studylib.errors import StudyError

# Utterances of each test speaker; speakers are interleaved below.
COUNTS = {"a": 5, "b": 3, "c": 1, "d": 4}
SEX = {"a": "f", "b": "m", "c": "f", "d": "f"}


@pytest.fixture
def table():
    rows = [
        {
            "id": f"{speaker}{number}",
            "speaker": speaker,
            "session": f"{speaker}-{number // 2}",
            "split": "test",
            "sex": SEX[speaker],
        }
        for number in range(5)
        for speaker in COUNTS
        if number < COUNTS[speaker]
    ]
    train = {"id": "z0", "speaker": "z", "session": "z", "split": "train", "sex": "m"}
    return pd.DataFrame([train, *rows])


def as_set(trials):
    return set(zip(trials["first"].astype(str), trials["second"].astype(str), strict=True))


def loop(table, keep):
    """The same trials, pair by pair."""
    rows = table[table["split"] == "test"].to_dict("records")
    return {(one["id"], two["id"]) for one, two in combinations(rows, 2) if keep(one, two)}


def check_form(trials, table):
    assert list(trials.columns) == ["first", "second", "target"]
    speaker = table.set_index("id")["speaker"]
    same = (
        speaker[trials["first"].astype(str)].to_numpy()
        == speaker[trials["second"].astype(str)].to_numpy()
    )
    np.testing.assert_array_equal(trials["target"], same)
    unordered = {frozenset(pair) for pair in as_set(trials)}
    assert len(unordered) == len(trials)
    assert all(len(pair) == 2 for pair in unordered)


def test_all_pairs_counts_are_those_of_the_closed_form(table):
    trials = all_pairs(table, "test")
    check_form(trials, table)
    assert len(trials) == comb(sum(COUNTS.values()), 2)
    assert trials["target"].sum() == sum(comb(count, 2) for count in COUNTS.values())
    assert as_set(trials) == loop(table, lambda one, two: True)


def test_nobody_has_the_same_sex_as_a_speaker_of_unknown_sex(table):
    for unknown in (None, "", np.nan):
        told = table.assign(sex=table["sex"].astype(object))
        told.loc[told["speaker"].isin(["b", "c"]), "sex"] = unknown
        ids = same_sex(told, "test")[["first", "second"]].astype(str).to_numpy().ravel()
        assert {name[0] for name in ids} == {"a", "d"}


def test_same_sex_keeps_the_pairs_of_one_sex(table):
    trials = same_sex(table, "test")
    check_form(trials, table)
    assert as_set(trials) == loop(table, lambda one, two: one["sex"] == two["sex"])
    with pytest.raises(StudyError, match="'sex'"):
        same_sex(table.drop(columns="sex"), "test")


def test_cross_session_leaves_out_one_speakers_own_session(table):
    trials = cross_session(table, "test")
    check_form(trials, table)
    assert as_set(trials) == loop(
        table,
        lambda one, two: one["speaker"] != two["speaker"] or one["session"] != two["session"],
    )


@pytest.mark.parametrize("n", [1, 3, 50])
def test_per_speaker_gives_n_targets_where_there_are_as_many(table, n):
    trials = per_speaker(table, "test", n, np.random.default_rng(0))
    check_form(trials, table)
    targets = trials[trials["target"]]
    of_speaker = targets["first"].astype(str).str[0].value_counts()
    for speaker, count in COUNTS.items():
        assert of_speaker.get(speaker, 0) == min(n, comb(count, 2))
    assert n <= (~trials["target"]).sum() <= n * len(COUNTS)


def test_per_speaker_repeats_with_its_seed_only(table):
    first, again, other = (
        as_set(per_speaker(table, "test", 2, np.random.default_rng(seed))) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_an_empty_split_is_named(table):
    with pytest.raises(StudyError, match="'dev'"):
        all_pairs(table, "dev")
