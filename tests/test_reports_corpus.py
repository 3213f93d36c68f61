"""The report of a corpus against counting by hand, and its sounds against the corpus."""

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import soundfile

from studylib.corpora.store import Corpus
from studylib.reports.corpus import left_out, player, sounds_to_compare, split_table, trial_table
from studylib.reports.figures import corpus as figures

matplotlib.use("Agg")
BASIC = ["id", "speaker", "session", "split", "start", "length"]


@pytest.fixture(scope="module")
def bare(tiny_corpus):
    """The same corpus from a source that knows nothing of its utterances."""
    description = tiny_corpus.description | {"source": "folder"}
    return Corpus(tiny_corpus.folder, tiny_corpus.utterances[BASIC], description)


def test_tables_count_what_the_corpus_holds(tiny_corpus, bare):
    splits = split_table(tiny_corpus)
    assert list(splits.index) == ["train", "dev", "test"]
    assert list(splits["speakers"]) == [12, 8, 8]
    assert list(splits["f"]) == list(splits["m"]) == [6, 4, 4]
    assert list(splits["utterances"]) == [48, 32, 32]
    assert splits["hours"].sum() == pytest.approx(tiny_corpus.description["counts"]["hours"], 0.1)
    assert list(split_table(bare)) == list(splits.drop(columns=["f", "m"]))
    trials = trial_table(tiny_corpus)
    assert dict(trials["trials"]) == tiny_corpus.description["counts"]["trials"]
    assert trials.loc["test", "targets"] == 8 * (4 * 3 // 2)
    assert (trials["targets"] + trials["nontargets"] == trials["trials"]).all()
    assert list(trials["speakers"].unique()) == [8]


def test_an_utterance_is_compared_with_the_same_speaker_and_with_a_similar_stranger(tiny_corpus):
    table, sounds = tiny_corpus.utterances, sounds_to_compare(tiny_corpus, 50)
    assert list(sounds) == ["as recorded", "the same speaker", "another speaker"]
    rows = {tiny_corpus.samples(row).tobytes(): row for row in table.index}
    own, same, other = (table.loc[rows[samples.tobytes()]] for samples in sounds.values())
    assert own["id"] == table["id"][50]
    assert (same["speaker"], same["session"] != own["session"]) == (own["speaker"], True)
    alike = (table["split"] == own["split"]) & (table["sex"] == own["sex"])
    rivals = table[alike & (table["speaker"] != own["speaker"])]
    assert other["id"] in set(rivals["id"])
    assert abs(other["f0"] - own["f0"]) == np.abs(rivals["f0"] - own["f0"]).min()


def test_a_player_plays_the_utterance(tiny_corpus):
    samples = tiny_corpus.samples(3)
    heard, rate = soundfile.read(io.BytesIO(player(samples, seconds=2.0).data))
    assert (rate, len(heard)) == (16_000, pytest.approx(32_000, abs=3_000))
    # The coder may delay what it codes: the best of all shifts must fit well.
    spectra = [np.fft.rfft(each, 2**17) for each in (heard, samples[:32_000])]
    fit = np.fft.irfft(spectra[0] * spectra[1].conj()).max()
    assert fit > 0.9 * np.linalg.norm(heard) * np.linalg.norm(samples[:32_000].astype(float))


def test_what_was_left_out_is_listed(tiny_corpus, tmp_path):
    corpus = Corpus(tmp_path / "data/mine", tiny_corpus.utterances, tiny_corpus.description)
    assert left_out(corpus).empty
    (tmp_path / "data").mkdir()
    bad = tmp_path / "in" / "0.wav"
    path = tmp_path / "data" / "mine.skipped.csv"
    path.write_text(f"skipped,why\n{bad},{bad} is an empty file\n")
    assert list(left_out(corpus)["why"]) == [str(Path("in/0.wav is an empty file"))]


def test_figures_show_what_the_corpus_knows(tiny_corpus, bare):
    table = tiny_corpus.utterances
    voices = figures.voices(table)
    assert [axes.get_ylabel() for axes in voices.axes] == list(figures.VOICES.values())
    panels = figures.sessions(table).axes
    assert [axes.get_xlabel() for axes in panels] == list(figures.SESSIONS.values())
    (panel,) = figures.sessions(bare.utterances).axes
    assert panel.get_xlabel() == "length of an utterance (s)"
    table = bare.utterances.assign(sex=table["sex"])
    table.loc[table["speaker"] == "test-0000", "sex"] = None
    figure = figures.voices(table)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert sorted(width for width in widths if width) == [1, 13, 14]
    matplotlib.pyplot.close("all")


def test_spectrograms_find_a_tone_at_its_frequency():
    tone = np.sin(2 * np.pi * 3000 * np.arange(16_000) / 16_000)
    (image,) = figures.spectrograms({"tone": tone, "again": tone}).axes[0].images
    power = np.flipud(image.get_array()).mean(axis=1)  # from 0 to 8,000 Hz
    assert 8000 * power.argmax() / (len(power) - 1) == pytest.approx(3000, abs=40)
    matplotlib.pyplot.close("all")
