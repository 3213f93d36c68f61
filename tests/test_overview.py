"""The overview of a corpus against counting by hand, and its sounds against the corpus."""

import io

import numpy as np
import pytest
import soundfile

from studylib.corpora.report import Report
from studylib.corpora.store import Corpus, open_corpus
from studylib.errors import StudyError
from studylib.reports import corpus as overview


def test_tables_count_what_the_corpus_holds(tiny_corpus):
    splits = overview.split_table(tiny_corpus)
    assert list(splits.index) == ["train", "dev", "test"]
    assert list(splits["speakers"]) == [12, 8, 8]
    assert list(splits["women"] + splits["men"]) == [12, 8, 8]
    assert list(splits["utterances"]) == [48, 32, 32]
    assert splits["hours"].sum() == pytest.approx(tiny_corpus.description["counts"]["hours"], 0.1)
    trials = overview.trial_table(tiny_corpus)
    assert dict(trials["trials"]) == tiny_corpus.description["counts"]["trials"]
    assert trials.loc["test", "targets"] == 8 * (4 * 3 // 2)
    assert (trials["targets"] + trials["non-targets"] == trials["trials"]).all()
    assert list(trials["speakers"].unique()) == [8]


def test_the_clean_recording_is_given_only_where_it_makes_the_stored_one(tiny_corpus):
    row = overview.example_row(tiny_corpus)
    clean = overview.clean_samples(tiny_corpus, row)
    assert clean.shape == tiny_corpus.samples(row).shape
    other_seed = tiny_corpus.description | {
        "settings": tiny_corpus.description["settings"] | {"seed": 2}
    }
    other_source = tiny_corpus.description | {"source": "folder"}
    for description in (other_seed, other_source):
        stranger = Corpus(tiny_corpus.folder, tiny_corpus.utterances, description)
        assert overview.clean_samples(stranger, row) is None


def test_companions_are_the_same_speaker_elsewhere_and_a_similar_stranger(tiny_corpus):
    table = tiny_corpus.utterances
    own = table.iloc[50]
    rows = overview.companions(tiny_corpus, 50)
    same, other = (table.iloc[rows[name]] for name in ("the same speaker", "another speaker"))
    assert same["speaker"] == own["speaker"]
    assert same["session"] != own["session"]
    rivals = table[(table["split"] == own["split"]) & (table["sex"] == own["sex"])]
    rivals = rivals[rivals["speaker"] != own["speaker"]]
    assert abs(other["f0"] - own["f0"]) == np.abs(rivals["f0"] - own["f0"]).min()


def test_a_source_that_knows_nothing_still_has_an_overview(tiny_corpus):
    bare = tiny_corpus.utterances[["id", "speaker", "session", "split", "start", "length"]]
    corpus = Corpus(tiny_corpus.folder, bare, tiny_corpus.description | {"source": "folder"})
    assert "women" not in overview.split_table(corpus)
    assert overview.example_row(corpus) == 0
    assert set(overview.companions(corpus, 0)) == {"the same speaker", "another speaker"}
    assert overview.unknown(bare, ["f0", "snr"]).endswith("know it: f0, snr.")


def test_an_utterance_asked_for_by_name_is_found_or_refused(tiny_corpus):
    name = tiny_corpus.utterances["id"][7]
    assert overview.example_row(tiny_corpus, name) == 7
    assert overview.example_facts(tiny_corpus, 7)["id"] == name
    with pytest.raises(StudyError, match="no-such"):
        overview.example_row(tiny_corpus, "no-such")


def test_a_player_plays_the_utterance(tiny_corpus):
    samples = open_corpus(tiny_corpus.folder).samples(3)
    sound = overview.player(samples, seconds=2.0)
    heard, rate = soundfile.read(io.BytesIO(sound.data))
    assert rate == 16_000
    assert len(sound.data) < 20_000
    assert len(heard) == pytest.approx(32_000, abs=3_000)
    # The coder may delay what it codes: the best of all shifts must fit well.
    spectra = [np.fft.rfft(each - each.mean(), 2**17) for each in (heard, samples[:32_000])]
    fit = np.fft.irfft(spectra[0] * spectra[1].conj()).max()
    fit /= np.linalg.norm(heard) * np.linalg.norm(samples[:32_000].astype(float))
    assert fit > 0.9


def test_what_was_left_out_is_listed_up_to_a_number_of_lines(tiny_corpus, tmp_path):
    corpus = Corpus(tmp_path / "data" / "mine", tiny_corpus.utterances, tiny_corpus.description)
    assert overview.left_out(corpus) == "Nothing was left out."
    (tmp_path / "data").mkdir()
    bad = [tmp_path / "in" / f"{number}.wav" for number in range(3)]
    report = Report(keep_going=True)
    for path in bad:
        report.problem(str(path), f"{path} is an empty file.")
    report.write(tmp_path / "data" / "mine.skipped.csv")
    lines = [f"in/{number}.wav is an empty file." for number in range(3)]
    assert overview.left_out(corpus).splitlines() == ["Left out: 3", *lines]
    cut = overview.left_out(corpus, most=1).splitlines()
    assert cut == ["Left out: 3", lines[0], "The others are listed in mine.skipped.csv."]
