"""Features against their definitions, written out in float64 numpy."""

import numpy as np
import pytest
import torch
from scipy.fft import dct

from studylib.errors import StudyError
from studylib.models.features import FEATURES, LogMel, Mfcc, Pitch, Spectrogram

TWO_SECONDS = 200 * 160 + 240  # samples: paper B's crop


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    """Eleven waveforms, so that the last chunk is not a full one, with a wide range of levels."""
    generator = torch.Generator().manual_seed(0)
    level = torch.logspace(-3, -0.5, 11).unsqueeze(1)
    return level * torch.randn(11, TWO_SECONDS, generator=generator)


def spectra_by_definition(samples: np.ndarray) -> np.ndarray:
    """|DFT|^2 of each frame, (T, 257), from a 512 x 257 matrix of complex exponentials."""
    n = np.arange(400)
    window = np.pad(0.54 - 0.46 * np.cos(2 * np.pi * n / 400), 56)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(512), np.arange(257)) / 512)
    starts = range(0, len(samples) - 511, 160)
    return np.array([np.abs((samples[s : s + 512] * window) @ waves) ** 2 for s in starts])


def log_mel_by_definition(samples: np.ndarray) -> np.ndarray:
    """(40, T), one filter and one bin at a time."""
    power = spectra_by_definition(np.pad(samples, 256, mode="reflect"))
    mels = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    filters = np.zeros((257, 40))
    for k in range(257):
        for m in range(40):
            left, centre, right = hertz[m : m + 3]
            f = k * 8000 / 256
            if left < f <= centre:
                filters[k, m] = (f - left) / (centre - left)
            elif centre < f < right:
                filters[k, m] = (right - f) / (right - centre)
    return np.log(power @ filters + 1e-6).T


def test_log_mel_equals_its_definition_in_float64(noise):
    for item in (0, 10):
        expected = log_mel_by_definition(noise[item].double().numpy())
        np.testing.assert_allclose(LogMel()(noise)[item], expected, atol=6e-6)
        in_double = LogMel().double()(noise[item : item + 1].double())[0]
        np.testing.assert_allclose(in_double, expected, atol=2e-6)


def test_the_spectrogram_equals_its_definition(noise):
    expected = np.sqrt(spectra_by_definition(noise[3].double().numpy())).T
    np.testing.assert_allclose(Spectrogram()(noise)[3], expected, atol=2e-5)


def test_mfcc_is_the_orthonormal_cosine_transform_of_log_mel(noise):
    expected = dct(LogMel()(noise).double().numpy(), norm="ortho", axis=1)[:, :30]
    np.testing.assert_allclose(Mfcc()(noise), expected, atol=1e-4)


@pytest.mark.parametrize("period", [60, 100, 128, 200])  # samples
def test_pitch_is_largest_at_the_period_of_pulses_whatever_their_level_and_colour(period):
    pulses = torch.zeros(3, 16_000)
    pulses[:, ::period] = 0.5
    pulses[1] *= 0.01
    pulses[2] = torch.roll(pulses[2], 1) + 0.9 * pulses[2]
    lags = 16_000 / 420 * 7 ** (np.arange(48) / 47)
    for peaks in Pitch()(pulses)[:, :, 5:-5].argmax(1).numpy():
        assert np.abs(np.log(lags[peaks] / period)).max() < np.log(7) / 47


@pytest.mark.parametrize("name", FEATURES)
class TestEveryFeature:
    def test_an_item_does_not_depend_on_its_batch_and_is_left_as_it_was(self, name, noise):
        feature, copy = FEATURES[name](), noise.clone()
        torch.testing.assert_close(feature(noise)[4:5], feature(noise[4:5]), atol=1e-5, rtol=1e-5)
        assert torch.equal(copy, noise)

    def test_float32_without_gradient_even_under_autocast(self, name, noise):
        waveform = noise[:2].clone().requires_grad_()
        feature = FEATURES[name]()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under_autocast = feature(waveform)
        assert under_autocast.dtype == torch.float32
        assert not under_autocast.requires_grad
        assert torch.equal(under_autocast, feature(waveform))

    def test_half_a_second_of_silence_is_finite_and_less_is_refused(self, name):
        feature = FEATURES[name]()
        assert feature(torch.zeros(1, 8000)).isfinite().all()
        with pytest.raises(StudyError, match=r"7999 samples.*8000"):
            feature(torch.zeros(1, 7999))
