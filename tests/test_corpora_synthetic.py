"""The embedded corpus: the same bits however it is made; voices that are audible and distinct."""

import hashlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from studylib.corpora.acoustics import Session
from studylib.corpora.store import SAMPLE_RATE, SPLITS, open_corpus
from studylib.corpora.synthetic import synthesis
from studylib.corpora.synthetic.embedded import prepare, utterances
from studylib.corpora.synthetic.settings import EmbeddedSettings
from studylib.corpora.synthetic.speakers import synthesize, utterances_of
from studylib.errors import StudyError
from tests.conftest import TINY

ROOT = Path(__file__).parent.parent


def changed(settings, **changes):
    return EmbeddedSettings(**settings.model_dump() | changes)


SMALL = changed(TINY, n_train_speakers=3, n_dev_speakers=1, n_test_speakers=2, seconds=1.5)
CLEAN = changed(TINY, preset="clean")


def digests(settings):
    """Utterance -> checksum of its samples and facts."""
    return {
        utterance.id: hashlib.sha256(
            utterance.samples.tobytes() + repr(utterance.facts).encode()
        ).hexdigest()
        for utterance in utterances(settings, workers=1, progress=False)
    }


def script(program, **environment):
    """Run a script that imports the package; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


# Other instructions of BLAS, NumPy, the C library and soxr than this processor's own. NumPy's names
# of instructions differ between its versions; it warns of those that it does not know.
AVX = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL X86_V3 X86_V4"
PROCESSORS = [
    {"OPENBLAS_CORETYPE": "Haswell"},
    {
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": AVX,
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA",
        "SOXR_USE_SIMD": "0",
    },
]
HARD = changed(SMALL, n_train_speakers=10, seconds=4.0, preset="hard")


def checksum():
    return hashlib.sha256("".join(digests(HARD).values()).encode()).hexdigest()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the engine is compiled")
def test_every_processor_makes_the_same_bits():
    """52 utterances, some 3.5 million samples, of 13 voices, with all session effects."""
    # Where this changes, RECIPE counts up.
    expected = "f5c51df42e0c9c5214fe5dbd1ae2df3d4cace5d26efae707b2e5dd3cbecc6f20"
    assert checksum() == expected
    for processor in PROCESSORS:
        program = "from tests.test_corpora_synthetic import checksum; print(checksum())"
        assert script(program, **processor) == expected


def prepare_program(settings, folder):
    return (
        "from studylib.corpora.synthetic.embedded import prepare; "
        f"prepare({settings.model_dump()}, {str(folder)!r}, workers=2)"
    )


def test_a_script_without_a_main_guard_makes_the_same_bytes_with_helpers(tmp_path):
    one = prepare(SMALL, tmp_path / "one", workers=1, progress=False)
    (tmp_path / "script.py").write_text(prepare_program(SMALL, tmp_path / "two"))
    script(f"import runpy; runpy.run_path({str(tmp_path / 'script.py')!r}, run_name='__main__')")
    two = open_corpus(tmp_path / "two", verify=True)
    assert one.description == two.description  # with the checksums


def test_another_seed_is_another_corpus():
    assert not set(digests(SMALL).values()) & set(digests(changed(SMALL, seed=5)).values())


def test_a_larger_corpus_begins_with_the_smaller_one():
    """More speakers, and more utterances of each, leave the others as they were."""
    larger = digests(changed(SMALL, n_train_speakers=4, n_dev_speakers=2, test_utterances=5))
    assert len(larger) == (4 + 2) * 4 + 2 * 5
    assert digests(SMALL).items() <= larger.items()


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
    assert len(set.union(*speakers.values())) == 28
    assert (table.groupby("speaker").size() == 4).all()
    # Not only the names: no two speakers have the same voice.
    assert table.groupby("speaker").f0.first().is_unique


def test_every_utterance_is_audible_and_of_the_length_asked_for(tiny_corpus):
    lengths = tiny_corpus.utterances["length"] / SAMPLE_RATE
    assert lengths.between(0.9 * TINY.seconds, 1.2 * TINY.seconds).all()
    for number in range(6):  # before any noise: no long silence, no clipping
        (recording,) = synthesize(CLEAN, "train", number, 1)
        assert recording.session == Session()
        blocks = recording.clean[: len(recording.clean) // 1600 * 1600].reshape(-1, 1600)
        loudness = np.sqrt(np.mean(blocks**2, axis=1))
        assert loudness.max() > 0.01
        assert np.mean(loudness > 0.1 * loudness.max()) > 0.5
        assert np.mean(np.abs(recording.clean) > 0.999) < 0.001
        assert np.abs(recording.samples / 32768 - recording.clean).max() < 1e-4


def band_statistics(samples):
    """Mean and deviation of log energies in 24 bands, (48,)."""
    frames = samples[: len(samples) // 512 * 512].reshape(-1, 512).astype(float)
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2
    edges = np.geomspace(3, 250, 25).astype(int)
    bands = np.log(np.add.reduceat(power, edges, axis=1)[:, :-1] + 1.0)
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])


def test_clean_voices_are_distinguished_by_simple_statistics():
    """The nearest utterance is mostly the same speaker's; by chance it would be for 1 in 15."""
    made = [synthesize(CLEAN, "test", number, 2) for number in range(8)]
    vectors = np.array([band_statistics(each.samples) for pair in made for each in pair])
    distances = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert np.mean(distances.argmin(axis=1) // 2 == np.arange(16) // 2) > 0.5


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


def test_speakers_have_the_pitch_of_the_table():
    """Measured in the clean speech, after the warp; one octave error is allowed."""
    made = [synthesize(CLEAN, "train", number, 1)[0] for number in range(8)]
    ratios = [fundamental(recording.clean) / recording.voice.f0 for recording in made]
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
    first, second, third, fourth = utterances_of(changed(SMALL, utterances_per_session=2), "dev", 0)
    assert first.session == second.session != third.session == fourth.session
    assert first.facts["snr"] == second.facts["snr"] != third.facts["snr"]


def test_trial_lists_are_all_pairs_and_same_sex_pairs(tiny_corpus):
    sex = tiny_corpus.utterances.sex.to_numpy()
    for split in ("dev", "test"):
        every, same = tiny_corpus.trials(split), tiny_corpus.trials(f"{split}_same_sex")
        assert (len(every), every.target.sum()) == (32 * 31 // 2, 8 * 6)
        assert (len(same), same.target.sum()) == (2 * 16 * 15 // 2, 8 * 6)
        assert (sex[same["first"]] == sex[same["second"]]).all()


def test_speech_is_the_same_whichever_speakers_were_made_before():
    alone = synthesize(SMALL, "train", 1, 1)[0].samples
    for before in (0, 2, 5):
        synthesize(SMALL, "test", before, 1)
        np.testing.assert_array_equal(synthesize(SMALL, "train", 1, 1)[0].samples, alone)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_build_leaves_no_corpus_no_helpers_and_no_engines(tmp_path):
    engines = tmp_path / "engines"
    engines.mkdir()
    program = prepare_program(changed(SMALL, n_train_speakers=500), tmp_path / "corpus")
    environment = os.environ | {"TMPDIR": str(engines)}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,  # of the helpers too, through their standard error
        stderr=subprocess.STDOUT,
    ) as build:
        while not any(engines.glob("studylib-*")):  # until a helper speaks
            time.sleep(0.05)
        build.kill()
        build.stdout.read()  # ends when the last helper has ended
    assert not (tmp_path / "corpus").exists()
    assert not list(engines.iterdir())
    corpus = prepare(SMALL, tmp_path / "corpus", workers=1, progress=False)
    assert set(tmp_path.iterdir()) == {corpus.folder, engines}


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
        ({"preset": "medium"}, "embedded: preset: .*'clean', 'mild', 'mid' or 'hard'"),
        ({"n_dev_speakers": 0}, "n_dev_speakers: .*greater than or equal to 1"),
        ({"n_train_speakers": 10**12}, "n_train_speakers: .*less than or equal to 100000"),
        ({"seconds": -1.0}, "seconds: .*greater than 0"),
        ({"test_utterances": 2.5}, "test_utterances: .*valid integer"),
        ({"speakers": 3}, "unknown key 'speakers'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes, message, tmp_path):
    with pytest.raises(StudyError, match=message):
        prepare(TINY.model_dump() | changes, tmp_path / "corpus")
