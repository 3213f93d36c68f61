"""Splits, trial lists from files, and the checks that keep a test open-set."""

import pandas as pd
import pytest
from trees import voice

from studylib.corpora.hygiene import known_speakers, refuse_known_speakers
from studylib.corpora.recordings import Splits
from studylib.corpora.report import Report
from studylib.corpora.trials import TrialList, all_pairs, make_trials, read_trial_list
from studylib.corpora.writing import Utterance, write_corpus
from studylib.errors import StudyError

UTTERANCES = pd.DataFrame(
    [
        (f"{speaker}/{session}/{number}.wav", speaker, session, split)
        for speaker, split in (("anna", "test"), ("bert", "test"), ("carl", "train"))
        for session in ("x", "y")
        for number in (1, 2)
    ],
    columns=["id", "speaker", "session", "split"],
)


def written(folder, population, split_of, tested="test"):
    utterances = [
        Utterance(row.id, row.speaker, row.session, split_of(row.speaker), voice(row.id, 0.1))
        for row in UTTERANCES.itertuples()
    ]
    return write_corpus(
        folder,
        utterances,
        trials={"list": lambda table: all_pairs(table, tested)},
        description={
            "source": "s", "version": "1", "settings": {}, "licence": "", "population": population,
        },
    )  # fmt: skip


def test_a_model_is_not_tested_on_speakers_it_has_met(tmp_path):
    def trained_on(population, split_of):
        return known_speakers(
            written(tmp_path / f"{population}{split_of('anna')}", population, split_of)
        )

    test = written(tmp_path / "t", "p", lambda name: "train" if name == "carl" else "test")
    for split in ("train", "dev"):  # models may be chosen by development speakers
        known = trained_on("p", lambda name, split=split: split if name == "anna" else "test")
        with pytest.raises(StudyError, match=r"knows 1 of the 2 speakers of .*'list' \(anna\)"):
            refuse_known_speakers(known, test, "list")
    # One name in two populations is two people; a known speaker outside the list does no harm.
    refuse_known_speakers(
        trained_on("q", lambda name: "test" if name == "carl" else "train"), test, "list"
    )
    refuse_known_speakers(known_speakers(test), test, "list")


def test_development_speakers_may_choose_a_model_unless_it_has_learned_them(tmp_path):
    def learning(speaker):
        return written(
            tmp_path / speaker, "p", lambda name: "train" if name == speaker else "dev", "dev"
        )

    development = learning("carl")
    refuse_known_speakers(known_speakers(development), development, "list")
    with pytest.raises(StudyError, match=r"knows 1 of the 2 speakers of .*'list' \(bert\)"):
        refuse_known_speakers(known_speakers(learning("bert")), development, "list")


GOOD = [
    "1 anna/x/1.wav anna/y/1.wav",
    "0 anna/x/1.wav bert/x/1.wav",
]
FAULTS = {
    "1 anna/x/1.wav anna/x/9.wav": "the utterance anna/x/9.wav is not in the corpus",
    "2 anna/x/1.wav anna/y/1.wav": "the label must be 0 or 1, not 2",
    "target anna/x/1.wav anna/y/1.wav": "the label must be 0 or 1, not target",
    "1 anna/x/1.wav": "expected '<0 or 1> <utterance> <utterance>', found 2 fields",
    "1,anna/x/1.wav,anna/y/1.wav": "expected '<0 or 1> <utterance> <utterance>', found 1 fields",
    "1 anna/x/1.wav anna/x/1.wav": "an utterance is compared with itself",
    "0 anna/x/1.wav anna/y/1.wav": "the label 0 contradicts the speakers",
    "1 anna/x/1.wav bert/y/1.wav": "the label 1 contradicts the speakers",
    "0 anna/x/1.wav carl/y/1.wav": "the utterance carl/y/1.wav is one to train on",
}


@pytest.mark.parametrize("line", FAULTS)
def test_a_bad_trial_is_named_by_its_line_or_skipped_and_reported(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text("\n".join([GOOD[0], "", line, GOOD[1]]) + "\n")
    with pytest.raises(StudyError) as caught:
        read_trial_list(path, UTTERANCES, Report())
    assert str(caught.value).startswith(f"{path}, line 3: {FAULTS[line]}")
    report = Report(keep_going=True)
    trials = read_trial_list(path, UTTERANCES, report)
    assert trials["target"].tolist() == [True, False]
    assert [what for what, _ in report.skipped] == [f"{path}, line 3"]


def test_a_list_may_have_a_byte_order_mark_backslashes_tabs_and_windows_line_ends(tmp_path):
    path = tmp_path / "list.txt"
    plain = "\n".join(GOOD)
    mixed = GOOD[0].replace("/", "\\") + "\r\n" + GOOD[1].replace(" ", "\t") + "\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + mixed.encode())
    odd = read_trial_list(path, UTTERANCES, Report())
    path.write_text(plain)
    pd.testing.assert_frame_equal(odd, read_trial_list(path, UTTERANCES, Report()))
    assert odd["second"].tolist() == ["anna/y/1.wav", "bert/x/1.wav"]


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "has no trials"), (b"\xff\xfe1", "is not text"), (None, "No such")]
)
def test_a_list_that_cannot_be_read_is_named(tmp_path, content, told):
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError, match=rf"list\.txt .*{told}"):
        read_trial_list(path, UTTERANCES, Report())


def test_a_list_without_targets_is_refused():
    one_session = UTTERANCES.assign(session="x")
    with pytest.raises(StudyError, match="'t' has no target trial"):
        make_trials({"t": TrialList(recipe="cross_session")}, one_session, Report())


# Splits.

MANY = [f"speaker{number}" for number in range(251)]


def test_speakers_are_drawn_with_a_seed_by_number_or_share():
    splits = Splits(test=51).assign(MANY, Report())
    assert pd.Series(splits).value_counts().to_dict() == {"train": 200, "test": 51}
    assert splits == Splits(test=51).assign(reversed(MANY), Report())
    assert splits != Splits(test=51, seed=1).assign(MANY, Report())
    shares = pd.Series(Splits(train=0.5, dev=0.1, test=0.2).assign(MANY, Report()))
    assert shares.value_counts().to_dict() == {"train": 126, "test": 50, "dev": 25}


def test_too_many_speakers_are_refused():
    with pytest.raises(StudyError, match=r"ask for 0 \+ 100 \+ 200 .* but there are 251"):
        Splits(dev=100, test=200).assign(MANY, Report())
    with pytest.raises(StudyError, match=r"ask for 200 \+ 0 \+ 100 .* but there are 251"):
        Splits(train=200, test=100).assign(MANY, Report())


def test_a_list_of_splits_is_read_and_checked(tmp_path):
    path = tmp_path / "splits.csv"
    path.write_text("speaker,split\nanna,train\nbert,test\n")
    both = ["anna", "bert"]
    assert Splits(file=path).assign(both, Report()) == {"anna": "train", "bert": "test"}
    with pytest.raises(StudyError, match=r"line 3: speaker 'bert' has no recordings"):
        Splits(file=path).assign(["anna", "Bert"], Report())
    path.write_text("speaker,split\nanna,train\nanna,test\n")
    with pytest.raises(StudyError, match=r"splits\.csv, line 3: speaker 'anna' is in two splits"):
        Splits(file=path).assign(both, Report())
    path.write_text("speaker,split\nanna,exam\n")
    with pytest.raises(StudyError, match=r"line 2: split 'exam' is not one of train, dev, test"):
        Splits(file=path).assign(both, Report())
