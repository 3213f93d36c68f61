"""The embedded corpus: the same bits however it is built, and voices that can be heard and told."""

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from studylib.corpora.acoustics import Session
from studylib.corpora.reader import SAMPLE_RATE
from studylib.corpora.sources import SOURCES
from studylib.corpora.store import SPLITS, open_corpus
from studylib.corpora.synthetic import synthesis
from studylib.corpora.synthetic.embedded import (
    SIZES,
    EmbeddedSettings,
    prepare,
    synthesize,
    utterances,
)
from studylib.errors import StudyError
from tests.conftest import TINY

SMALL = EmbeddedSettings(3, 2, 1, 2, 2, 2, seconds=1.5, seed=4)


def checksums(folder):
    return open_corpus(folder, verify=True).description["checksums"]


def digests(settings, workers=1):
    """Utterance -> checksum of its samples and facts."""
    return {
        utterance.id: hashlib.sha256(
            utterance.samples.tobytes() + repr(utterance.facts).encode()
        ).hexdigest()
        for utterance in utterances(settings, workers=workers, progress=False)
    }


def test_a_second_build_with_two_workers_is_the_same_bytes(tmp_path):
    one = prepare(SMALL, tmp_path / "one", workers=1, progress=False)
    two = prepare(SMALL, tmp_path / "two", workers=2, progress=False)
    assert checksums(one.folder) == checksums(two.folder)
    assert one.description == two.description


def test_another_seed_is_another_corpus():
    assert not set(digests(SMALL).values()) & set(digests(replace(SMALL, seed=5)).values())


def test_a_larger_corpus_begins_with_the_smaller_one():
    """More speakers, and more utterances of each, leave the others as they were."""
    small = digests(SMALL)
    larger = digests(
        replace(SMALL, n_train_speakers=4, n_dev_speakers=2, train_utterances=3, test_utterances=3)
    )
    assert len(larger) == 4 * 3 + 2 * 2 + 2 * 3
    assert {name: larger[name] for name in small} == small


def test_the_notebooks_example_is_what_the_corpus_holds(tiny_corpus):
    recordings = synthesize(TINY, "dev", 3, n_utterances=2)
    rows = tiny_corpus.utterances.query("speaker == 'dev-0003'").index
    for row, recording in zip(rows, recordings, strict=False):
        np.testing.assert_array_equal(tiny_corpus.samples(row), recording.samples)
        assert tiny_corpus.utterances.loc[row, "snr"] == recording.session.snr
        assert tiny_corpus.utterances.loc[row, "text"] == recording.text
        assert len(recording.clean) == len(recording.samples)


def test_speakers_of_the_splits_are_disjoint_and_counted(tiny_corpus):
    table = tiny_corpus.utterances
    speakers = {split: set(table.speaker[table.split == split]) for split in SPLITS}
    assert [len(speakers[split]) for split in SPLITS] == [12, 8, 8]
    assert not speakers["train"] & speakers["dev"]
    assert not (speakers["train"] | speakers["dev"]) & speakers["test"]
    assert (table.groupby("speaker").size() == 4).all()
    # Not only the names: no two speakers have the same voice.
    assert table.groupby("speaker").f0.first().is_unique


def test_every_utterance_is_audible_and_of_the_length_asked_for(tiny_corpus):
    lengths = tiny_corpus.utterances["length"] / SAMPLE_RATE
    assert lengths.between(0.9 * TINY.seconds, 1.2 * TINY.seconds).all()
    for row in range(len(tiny_corpus.utterances)):
        samples = tiny_corpus.samples(row) / 32768
        assert np.sqrt(np.mean(samples**2)) > 0.005
        assert np.mean(np.abs(samples) > 0.999) < 0.001


def test_clean_speech_fills_most_of_every_utterance():
    """Before any noise: no long silence, no clipping."""
    for number in range(6):
        (recording,) = synthesize(replace(TINY, preset="clean"), "train", number, 1)
        assert recording.session == Session()
        blocks = recording.clean[: len(recording.clean) // 1600 * 1600].reshape(-1, 1600)
        loudness = np.sqrt(np.mean(blocks**2, axis=1))
        assert np.mean(loudness > 0.1 * loudness.max()) > 0.5
        assert np.abs(recording.samples / 32768 - recording.clean).max() < 1e-4


def band_statistics(samples):
    """Mean and deviation of log energies in 24 bands, (48,)."""
    frames = samples[: len(samples) // 512 * 512].reshape(-1, 512).astype(float)
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
    edges = np.geomspace(3, 250, 25).astype(int)
    bands = np.log(np.add.reduceat(power, edges, axis=1)[:, :-1] + 1.0)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])


def test_clean_voices_are_told_apart_by_simple_statistics():
    """The nearest utterance is mostly the same speaker's; by chance it would be for 1 in 15."""
    settings = replace(TINY, preset="clean")
    vectors, speakers = [], []
    for number in range(8):
        for recording in synthesize(settings, "test", number, 2):
            vectors.append(band_statistics(recording.samples))
            speakers.append(number)
    distances = np.linalg.norm(np.array(vectors)[:, None] - np.array(vectors), axis=2)
    np.fill_diagonal(distances, np.inf)
    nearest = np.array(speakers)[distances.argmin(axis=1)]
    assert np.mean(nearest == speakers) > 0.5


def fundamental(speech):
    """Median over frames of the autocorrelation's peak, Hz."""
    found = []
    for start in range(0, len(speech) - 1024, 800):
        frame = speech[start : start + 1024] * np.hanning(1024)
        if np.mean(frame**2) < 0.1 * np.mean(speech**2):
            continue
        correlation = np.fft.irfft(np.abs(np.fft.rfft(frame, 2048)) ** 2)
        lag = 40 + correlation[40:267].argmax()
        if correlation[lag] > 0.4 * correlation[0]:
            found.append(SAMPLE_RATE / lag)
    return np.median(found)


def test_speakers_have_the_pitch_that_the_table_says():
    """Measured in the clean speech, after the warp; one octave error is allowed."""
    settings = replace(TINY, preset="clean")
    ratios = []
    for number in range(8):
        (recording,) = synthesize(settings, "train", number, 1)
        ratios.append(fundamental(recording.clean) / recording.voice.f0)
    assert np.sum(np.abs(np.log(ratios)) < np.log(1.2)) >= 7


def test_sexes_alternate_and_facts_agree_with_the_preset(tiny_corpus):
    table = tiny_corpus.utterances
    by_speaker = table.groupby("speaker").agg({"sex": "first", "f0": "first"})
    assert (by_speaker.sex == "f").mean() == 0.5
    assert by_speaker.f0[by_speaker.sex == "f"].mean() > by_speaker.f0[by_speaker.sex == "m"].mean()
    assert table.snr.between(3, 25).all()
    assert table.low_pass.dropna().between(3400, 7000).all()
    assert 0 < table.reverberation.isna().mean() < 1
    assert table.session.is_unique


def test_utterances_share_a_session_when_asked():
    settings = replace(SMALL, n_train_speakers=1, train_utterances=4, utterances_per_session=2)
    made = [u for u in utterances(settings, workers=1, progress=False) if u.split == "train"]
    assert [u.session[-4:] for u in made] == ["s000", "s000", "s001", "s001"]
    snr = [u.facts["snr"] for u in made]
    assert snr[0] == snr[1] != snr[2] == snr[3]


def test_trial_lists_are_all_pairs_and_same_sex_pairs(tiny_corpus):
    assert tiny_corpus.trial_lists == ("dev", "dev_same_sex", "test", "test_same_sex")
    table = tiny_corpus.utterances
    for split in ("dev", "test"):
        every, same = tiny_corpus.trials(split), tiny_corpus.trials(f"{split}_same_sex")
        assert (len(every), every.target.sum()) == (32 * 31 // 2, 8 * 6)
        assert (len(same), same.target.sum()) == (2 * 16 * 15 // 2, 8 * 6)
        assert (table.split[every["first"]] == split).all()
        sex = table.sex.to_numpy()
        assert (sex[same["first"]] == sex[same["second"]]).all()


def test_speech_is_the_same_whoever_spoke_before_and_in_a_fresh_process():
    program = (
        "import hashlib; from studylib.corpora.synthetic.embedded import *; "
        f"made = synthesize({SMALL!r}, 'train', 1, 1); "
        "print(hashlib.sha256(made[0].samples).hexdigest())"
    )
    root = Path(__file__).parent.parent
    fresh = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    for before in (0, 2, 5):
        synthesize(SMALL, "test", before, 1)
        here = hashlib.sha256(synthesize(SMALL, "train", 1, 1)[0].samples).hexdigest()
        assert here == fresh.stdout.strip()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_build_leaves_no_corpus_and_no_helpers(tmp_path):
    program = (
        "from studylib.corpora.synthetic.embedded import *; from pathlib import Path; "
        f"prepare({replace(SMALL, n_train_speakers=500)!r}, Path({str(tmp_path / 'corpus')!r}), "
        "workers=2)"
    )
    (tmp_path / "engines").mkdir()
    build = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        env=os.environ | {"TMPDIR": str(tmp_path / "engines")},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: any((tmp_path / "engines").glob("studylib-*")))  # a helper speaks
    assert len(list(tmp_path.glob("corpus.partial-*"))) == 1
    build.kill()
    build.wait()
    assert not (tmp_path / "corpus").exists()
    wait_until(lambda: not group_lives(build.pid))
    corpus = prepare(SMALL, tmp_path / "corpus", workers=1, progress=False)
    assert set(tmp_path.iterdir()) == {corpus.folder, tmp_path / "engines"}


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_temporary_copies_of_the_engine_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(synthesis.tempfile, "tempdir", str(tmp_path))
    synthesize(SMALL, "train", 0, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_synthesizer_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(StudyError, match="needs the package espeakng-loader"):
        prepare(SMALL, tmp_path / "corpus", workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_engine_of_another_platform_is_one_clear_sentence(tmp_path, monkeypatch):
    broken = tmp_path / "libespeak-ng.so"
    broken.write_bytes(b"not a library")
    _, data = synthesis._installed()
    monkeypatch.setattr(synthesis, "_installed", lambda: (broken, data))
    with pytest.raises(StudyError, match="does not run on this platform"):
        synthesize(SMALL, "train", 0, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "medium"}, "preset 'medium' is not one of clean, mild, mid, hard"),
        ({"n_dev_speakers": 0}, "n_dev_speakers must be positive, not 0"),
        ({"seconds": -1.0}, "seconds must be positive"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"train_utterances": "6"}, "train_utterances must be a whole number, not '6'"),
        ({"test_utterances": 2.5}, "test_utterances must be a whole number, not 2.5"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(StudyError, match=message):
        replace(SMALL, **changes)


def test_settings_may_be_a_mapping_without_unknown_keys(tmp_path, tiny_corpus):
    assert prepare(asdict(TINY), tiny_corpus.folder).description == tiny_corpus.description
    with pytest.raises(StudyError, match="unknown key 'speakers'"):
        prepare({"speakers": 3}, tmp_path / "corpus")


def test_the_source_and_its_sizes_are_in_plain_sight():
    assert SOURCES["embedded"] is prepare
    assert set(SIZES) == {"tests", "study", "gpu"}
