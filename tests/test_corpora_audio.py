"""Decoding: every kind of file becomes the same 16-kHz mono int16 samples."""

import numpy as np
import pytest
from trees import voice, write, write_m4a

from studylib.corpora.audio import check_in_place, decode
from studylib.errors import StudyError


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_sixteen_bit_files_keep_their_samples_bit_for_bit(tmp_path, name):
    samples = voice("x")
    samples[:2] = -32768, 32767
    assert np.array_equal(decode(write(tmp_path / name, samples)), samples)


def test_float_files_are_scaled_by_full_scale_and_rounded(tmp_path):
    waveform = np.array([0.5, -0.25, 1.5 / 32768, 0.9 / 32768, 1.0, -1.2] + 200 * [0.0])
    path = write(tmp_path / "a.wav", waveform, subtype="FLOAT")
    assert decode(path, 0.0)[:7].tolist() == [16384, -8192, 2, 1, 32767, -32768, 0]


def test_channels_are_averaged(tmp_path):
    left, right = voice("left"), voice("right")
    path = write(tmp_path / "a.wav", np.stack([left, right], axis=1))
    expected = np.rint((left.astype(np.float64) + right) / 2)
    assert np.abs(decode(path) - expected).max() <= 1  # halves may round either way


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_a_resampled_tone_is_the_tone_sampled_at_16_khz(tmp_path, rate):
    samples = decode(write(tmp_path / "a.wav", tone(rate), rate))
    assert abs(len(samples) - 16_000) <= 1
    inside = slice(1000, 15_000)
    assert np.abs(samples[inside] / 32768 - tone(16_000)[inside]).max() < 1e-3


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_files_resemble_what_was_written(tmp_path, name):
    samples = decode(write(tmp_path / name, tone(16_000)))
    spectrum = np.abs(np.fft.rfft(samples[:16_000], 16_000))
    assert spectrum.argmax() == 440
    assert len(samples) >= 16_000


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_an_m4a_has_the_samples_that_were_written_in_their_place(tmp_path, rate):
    path = write_m4a(tmp_path / "a.m4a", np.rint(tone(rate) * 32768).astype(np.int16), rate)
    samples = decode(path)
    error = samples[2000:14_000] / 32768 - tone(16_000)[2000:14_000]
    assert np.square(error).mean() < 1e-3 * 0.125  # 30 dB below the tone
    assert 16_000 <= len(samples) <= 16_000 + 1024  # the last frame is filled up


@pytest.mark.parametrize("index", ["first", "last"])
def test_an_m4a_is_refused_wherever_it_was_cut(tmp_path, index):
    options = {"movflags": "faststart"} if index == "first" else {}
    path = write_m4a(tmp_path / "a.m4a", voice("x", 5.0), **options)
    decode(path)
    whole = path.read_bytes()
    for share in (0.9, 0.5, 0.2):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(StudyError, match=r"a\.m4a (cannot be decoded|is truncated)"):
            decode(path)


def test_a_wav_written_into_a_pipe_with_an_open_length_is_whole(tmp_path):
    path = write(tmp_path / "a.wav", voice("x"))
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert np.array_equal(decode(path), voice("x"))


BAD = {
    "none.wav cannot be read as audio": None,
    "a.m4a cannot be decoded": b"no audio" * 100,
    "b.wav cannot be read as audio": b"no audio" * 100,
    "c.wav cannot be read as audio": b"",
    "d.wav is truncated": (voice("x"), {}),
    "e.flac is damaged": (voice("x"), {}),
    "f.wav lasts 0.000 s; expected 0.5 s or more": (voice("x", 0), {}),
    "g.wav holds nothing but silence": (2e-4 * tone(16_000), {"subtype": "FLOAT"}),
    "i.wav has 66 % of its samples beyond": (4 * tone(16_000), {"subtype": "FLOAT"}),
    "j.wav has 1.* % of its samples beyond": (np.full((9000, 2), 3e38), {"subtype": "FLOAT"}),
    "k.wav has 100 Hz; expected 4,000 to": (voice("x"), {"rate": 100}),
    "l.wav has 1,000,000 Hz; expected": (voice("x"), {"rate": 1_000_000}),
    "m.ogg is truncated": (voice("x", 3.0), {}),
    "n.opus is truncated": (voice("x", 3.0), {"format": "OGG", "subtype": "OPUS"}),
    "h.wav has samples that are not finite": (
        np.where(np.arange(9000) == 5000, np.nan, 0.1),
        {"subtype": "FLOAT"},
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_file_that_cannot_be_used_is_named_in_one_sentence(tmp_path, fault):
    path, content = tmp_path / fault.split()[0], BAD[fault]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        write(path, content[0], **content[1])
        if "truncated" in fault or "damaged" in fault:
            path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(StudyError, match=fault) as caught:
        decode(path, minimum_seconds=0.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 8_000, 1, "PCM_16"),
        ("a.wav", 16_000, 2, "PCM_16"),
        ("a.wav", 16_000, 1, "FLOAT"),
        ("a.ogg", 16_000, 1, "VORBIS"),
    ],
)
def test_only_files_that_can_be_read_in_part_stay_in_place(tmp_path, name, rate, channels, subtype):
    path = write(tmp_path / name, np.zeros((9000, channels)), rate, subtype=subtype)
    with pytest.raises(StudyError, match=r"cannot stay in place .* set storage: packed"):
        check_in_place(path)
