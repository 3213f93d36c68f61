"""The on-disk corpus against plain slicing, soundfile, and deliberate damage."""

import os

import numpy as np
import pandas as pd
import pytest
import soundfile

from studylib.corpora.store import open_corpus
from studylib.corpora.writing import Utterance, write_corpus
from studylib.errors import StudyError

DESCRIPTION = {"source": "noise", "version": "1", "settings": {"n": 12}, "licence": "none"}
LENGTHS = (700, 20, 1500, 1, 999, 64, 65, 63, 300, 301, 1000, 128)


def make_utterances(seed: int = 0, lengths: tuple[int, ...] = LENGTHS) -> list[Utterance]:
    rng = np.random.default_rng(seed)
    return [
        Utterance(
            id=f"u{number}",
            speaker=f"s{number // 3}",
            session=f"s{number // 3}-{number}",
            split="train" if number < 6 else "test",
            samples=rng.integers(-32768, 32768, length, dtype=np.int16),
            facts={"sex": "fm"[number // 3 % 2], "age": 20.0 + number},
        )
        for number, length in enumerate(lengths)
    ]


def trials_of(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"first": ["u6", "u6"], "second": ["u7", "u9"], "target": [True, False]})


def write(folder, utterances=None, **changes):
    return write_corpus(
        folder,
        make_utterances() if utterances is None else utterances,
        trials=changes.pop("trials", {"some": trials_of}),
        description=DESCRIPTION | changes.pop("description", {}),
        **changes,
    )


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "noise")


def test_samples_and_facts_come_back_as_they_were(corpus):
    for row, utterance in enumerate(make_utterances()):
        np.testing.assert_array_equal(corpus.samples(row), utterance.samples)
        stored = corpus.utterances.loc[row].to_dict()
        for key in ("id", "speaker", "session", "split"):
            assert stored[key] == getattr(utterance, key)
        assert {key: stored[key] for key in utterance.facts} == utterance.facts
    assert isinstance(corpus.utterances.index, pd.RangeIndex)


@pytest.mark.parametrize("length", [1, 64, 65, 1000, 4000])
def test_crops_equal_slices_of_the_repeated_utterance(corpus, length):
    rng = np.random.default_rng(length)
    rows = rng.integers(0, len(LENGTHS), 200)
    starts = rng.integers(0, np.array(LENGTHS)[rows])
    crops = corpus.crops(rows, starts, length)
    assert crops.shape == (200, length)
    assert crops.dtype == np.int16
    utterances = make_utterances()
    for crop, row, first in zip(crops, rows, starts, strict=True):
        samples = utterances[row].samples
        repeated = np.tile(samples, 2 + length // len(samples))
        np.testing.assert_array_equal(crop, repeated[first : first + length])


@pytest.mark.parametrize("absent", ["preadv", "posix_fadvise"])
def test_crops_are_the_same_where_the_system_lacks_a_call(corpus, monkeypatch, absent):
    rows, starts = np.arange(len(LENGTHS)), np.zeros(len(LENGTHS), dtype=int)
    expected = corpus.crops(rows, starts, 500)
    monkeypatch.delattr(f"os.{absent}", raising=False)
    np.testing.assert_array_equal(corpus.crops(rows, starts, 500), expected)


def test_audio_that_is_cut_while_it_is_open_is_no_endless_silence(corpus):
    os.truncate(corpus.folder / "audio.i16", 1000)
    with pytest.raises(StudyError, match=r"audio\.i16 ends early"):
        corpus.crops(np.array([11]), np.array([0]), 100)


def test_trials_become_rows_of_the_table(corpus):
    trials = corpus.trials("some")
    assert trials.to_dict("list") == {"first": [6, 6], "second": [7, 9], "target": [True, False]}
    assert corpus.trial_lists == ("some",)
    with pytest.raises(StudyError, match="no trial list 'other'; it has: some"):
        corpus.trials("other")


def test_files_left_in_place_give_the_same_crops_bit_for_bit(corpus, tmp_path):
    (tmp_path / "source").mkdir()
    for utterance in make_utterances():
        path = tmp_path / "source" / f"{utterance.id}.flac"
        soundfile.write(path, utterance.samples, 16_000, "PCM_16")
    paths = [f"{name}.flac" for name in corpus.utterances["id"]]
    table = corpus.utterances.assign(start=0, path=paths)
    # A relative root counts from the corpus, so both may move together.
    in_place = write(tmp_path / "in_place", table, description={"root": "../source"})
    assert not (in_place.folder / "audio.i16").exists()
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(LENGTHS), 60)
    starts = rng.integers(0, np.array(LENGTHS)[rows])
    for length in (50, 700):
        expected = corpus.crops(rows, starts, length)
        np.testing.assert_array_equal(in_place.crops(rows, starts, length), expected)
    (tmp_path / "source" / paths[3]).unlink()
    with pytest.raises(StudyError, match=r"u3\.flac is missing"):
        in_place.crops(np.array([3]), np.array([0]), 1)
    soundfile.write(tmp_path / "source" / paths[3], np.zeros(9, dtype=np.int16), 8_000)
    with pytest.raises(StudyError, match=r"has 9 samples, 1 channel\(s\), 8000 Hz; expected 1 s"):
        in_place.crops(np.array([3]), np.array([0]), 1)


@pytest.mark.parametrize("name", ["audio.i16", "utterances.parquet", "trials/some.parquet"])
def test_a_missing_part_is_named_and_mended_by_overwriting(corpus, name):
    (corpus.folder / name).unlink()
    with pytest.raises(StudyError, match=f"{name} has [0-9,]+ bytes, but corpus.json"):
        open_corpus(corpus.folder)  # looks at sizes only
    with pytest.raises(StudyError, match=name):
        write(corpus.folder)
    write(corpus.folder, overwrite=True)
    open_corpus(corpus.folder, verify=True)


def test_another_corpus_is_replaced_only_when_asked(corpus):
    other = {"settings": {"n": 13}}
    with pytest.raises(StudyError, match="holds another corpus: its settings"):
        write(corpus.folder, description=other)
    write(corpus.folder, (1 / 0 for _ in "the same corpus is kept, its source is not read"))
    new = write(corpus.folder, make_utterances(seed=5), description=other, overwrite=True)
    assert new.description["settings"] == {"n": 13}
    assert [path.name for path in corpus.folder.parent.iterdir()] == ["noise"]
