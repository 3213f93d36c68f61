"""A model is not tested on speakers it has met."""

import pytest
from trees import voice

from studylib.corpora.hygiene import known_speakers, refuse_known_speakers
from studylib.corpora.trials import all_pairs
from studylib.corpora.writing import Utterance, write_corpus
from studylib.errors import StudyError


def written(folder, train="", tested="test", population="p"):
    """A corpus of anna, bert and carl: those named in `train` train, the others are `tested`."""
    utterances = []
    for name in ("anna", "bert", "carl"):
        facts = name, name, "train" if name in train else tested, voice(name, 0.1)
        utterances += [Utterance(f"{name}{number}", *facts) for number in (1, 2)]
    description = {"source": "s", "population": population}
    trials = {"list": lambda table: all_pairs(table, tested)}
    return write_corpus(folder, utterances, trials=trials, description=description)


def test_a_model_is_not_tested_on_speakers_it_has_met(tmp_path):
    test = written(tmp_path / "t", train="carl")
    learned = written(tmp_path / "a", train="anna", tested="test")
    chosen = written(tmp_path / "b", train="bert carl", tested="dev")
    for corpus, speaker in ((learned, "anna"), (chosen, "anna")):
        with pytest.raises(StudyError, match=rf"knows [12] of the 2 .*'list' \({speaker}"):
            refuse_known_speakers(known_speakers(corpus), test, "list")
    # One name in two populations is two people; a known speaker outside the list does no harm.
    others = written(tmp_path / "c", train="anna bert", population="q")
    refuse_known_speakers(known_speakers(others), test, "list")
    refuse_known_speakers(known_speakers(test), test, "list")


def test_development_speakers_may_choose_a_model_unless_it_has_learned_them(tmp_path):
    development = written(tmp_path / "carl", train="carl", tested="dev")
    refuse_known_speakers(known_speakers(development), development, "list")
    learned = known_speakers(written(tmp_path / "bert", train="bert", tested="dev"))
    with pytest.raises(StudyError, match=r"knows 1 of the 2 speakers of .*'list' \(bert\)"):
        refuse_known_speakers(learned, development, "list")
