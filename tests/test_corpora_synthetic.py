"""The embedded corpus: the same bits however it is made; voices that are audible and distinct."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from studylib.corpora.store import SAMPLE_RATE, open_corpus
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
HARD = changed(SMALL, preset="hard", seconds=2.5)

# Other instructions of BLAS, NumPy, the C library and soxr than this processor's own. NumPy's names
# of instructions differ between its versions; it warns of those that it does not know.
OTHER_PROCESSOR = {
    "OPENBLAS_CORETYPE": "Prescott",
    "NPY_DISABLE_CPU_FEATURES": (
        "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL X86_V3 X86_V4"
    ),
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA",
    "SOXR_USE_SIMD": "0",
}


def start_preparing(settings, folder, **environment):
    """Make a corpus with helpers, by a script that has no main guard."""
    script = folder.with_suffix(".py")
    script.write_text(
        "from studylib.corpora.synthetic.embedded import prepare\n"
        f"prepare({settings.model_dump()}, {str(folder)!r}, workers=2)\n"
    )
    return subprocess.Popen(
        [sys.executable, script],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,  # of the helpers too, through their standard error
        stderr=subprocess.STDOUT,
    )


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the engine is compiled")
def test_every_processor_makes_the_same_bytes_with_and_without_helpers(tmp_path):
    """24 utterances, some million samples, of 6 voices, with all session effects."""
    with start_preparing(HARD, tmp_path / "other", **OTHER_PROCESSOR) as other:
        ours = prepare(HARD, tmp_path / "ours", workers=1, progress=False)
        output = other.stdout.read().decode()
    assert other.returncode == 0, output
    assert open_corpus(tmp_path / "other", verify=True).description == ours.description
    # Where this changes, RECIPE counts up.
    expected = "040a15723511f46f0e34de9d24d9e15521f1e389fe9fd4dc58ef0aca27a3a6ea"
    assert ours.description["checksums"]["audio.i16"] == expected


def made(settings):
    """Utterance -> its samples and facts."""
    return {
        utterance.id: (utterance.samples.tobytes(), repr(utterance.facts))
        for utterance in utterances(settings, workers=1, progress=False)
    }


def test_a_larger_corpus_begins_with_the_smaller_one_and_another_seed_makes_another():
    """More speakers, and more utterances of each, leave the others as they were."""
    small = made(SMALL)
    larger = made(changed(SMALL, n_train_speakers=4, n_dev_speakers=2, test_utterances=5))
    assert len(larger) == (4 + 2) * 4 + 2 * 5
    assert small.items() <= larger.items()
    assert not set(small.values()) & set(made(changed(SMALL, seed=5)).values())


def test_no_two_speakers_share_a_voice_and_half_of_them_are_of_each_sex(tiny_corpus):
    by_speaker = tiny_corpus.utterances.groupby("speaker")[["sex", "f0"]].first()
    assert by_speaker.f0.is_unique
    pitch = by_speaker.groupby("sex").f0.agg(["size", "mean"])
    assert pitch.loc["f", "size"] == pitch.loc["m", "size"] == 14
    assert pitch.loc["f", "mean"] > pitch.loc["m", "mean"]
    assert len(tiny_corpus.trials("test_same_sex")) == 2 * 16 * 15 // 2


def fundamental(speech):
    """Median over frames of the autocorrelation's peak, Hz."""
    found = []
    for start in range(0, len(speech) - 1024, 800):
        frame = speech[start : start + 1024] * np.hanning(1024)
        correlation = np.fft.irfft(np.abs(np.fft.rfft(frame, 2048)) ** 2)
        lag = 40 + correlation[40:267].argmax()
        if np.mean(frame**2) > 0.1 * np.mean(speech**2) and correlation[lag] > 0.4 * correlation[0]:
            found.append(SAMPLE_RATE / lag)
    return np.median(found)


def test_clean_speakers_are_audible_at_the_length_and_pitch_asked_for():
    """Pitch is measured in the speech, after the warp; one octave error is allowed."""
    recordings = [synthesize(CLEAN, "train", number, 1)[0] for number in range(8)]
    ratios = [fundamental(recording.clean) / recording.voice.f0 for recording in recordings]
    assert np.sum(np.abs(np.log(ratios)) < np.log(1.2)) >= 7
    for recording in recordings:  # no long silence, no clipping
        assert 0.9 * CLEAN.seconds <= len(recording.clean) / SAMPLE_RATE <= 1.2 * CLEAN.seconds
        blocks = recording.clean[: len(recording.clean) // 1600 * 1600].reshape(-1, 1600)
        loudness = np.sqrt(np.mean(blocks**2, axis=1))
        assert loudness.max() > 0.01
        assert np.mean(loudness > 0.1 * loudness.max()) > 0.5
        assert np.mean(np.abs(recording.clean) > 0.999) < 0.001
        assert np.abs(recording.samples / 32768 - recording.clean).max() < 1e-4


def test_utterances_share_a_session_when_asked():
    first, second, third, fourth = utterances_of(changed(SMALL, utterances_per_session=2), "dev", 0)
    assert first.session == second.session != third.session == fourth.session
    assert first.facts["snr"] == second.facts["snr"] != third.facts["snr"]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_killed_build_leaves_no_corpus_no_helpers_and_no_engines(tmp_path):
    engines = tmp_path / "engines"
    engines.mkdir()
    large = changed(SMALL, n_train_speakers=500)
    with start_preparing(large, tmp_path / "corpus", TMPDIR=str(engines)) as build:
        while not any(engines.glob("studylib-*")):  # until a helper speaks
            time.sleep(0.05)
        build.kill()
        build.stdout.read()  # ends when the last helper has ended
    assert not (tmp_path / "corpus").exists()
    assert not list(engines.iterdir())
    corpus = prepare(SMALL, tmp_path / "corpus", workers=1, progress=False)
    assert set(tmp_path.iterdir()) == {corpus.folder, tmp_path / "corpus.py", engines}


def test_a_synthesizer_of_another_platform_is_one_clear_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("espeakng_loader.get_library_path", lambda: __file__)
    with pytest.raises(StudyError, match="does not run on this platform"):
        prepare(SMALL, tmp_path / "corpus", workers=1, progress=False)
    assert list(tmp_path.iterdir()) == []
