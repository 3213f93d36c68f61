"""Augmentation of batches: the promised SNR, convolutions as SciPy computes them, reproducible."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.signal import fftconvolve, welch
from trees import voice, write

from studylib.errors import StudyError
from studylib.training.augmentation import (
    DIRECT,
    Augmentation,
    AugmentationSettings,
    coloured_noise,
    read_rooms,
    synthetic_rooms,
)

NOTHING = {"noise_chance": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def speech(rows=32, samples=16_000):
    return 0.05 * torch.randn(rows, samples, generator=generator(99))


def decibels(ratio):
    return 10 * torch.log10(ratio)


def snr_of(clean, noisy):
    return decibels(clean.square().mean(1) / (noisy - clean).square().mean(1))


@pytest.fixture
def noises(tmp_path):
    write(tmp_path / "music" / "long.wav", voice("long", 3.0))
    write(tmp_path / "short.wav", voice("short", 0.3))
    return tmp_path


def test_noise_is_added_at_the_snr_of_paper_a(noises):
    for folder in (None, noises):
        augmentation = Augmentation(AugmentationSettings(noise_folder=folder))
        snr = snr_of(speech(200), augmentation(speech(200), generator()))
        assert ((snr > 9.99) & (snr < 20.01)).all()
        # Uniform: mean 15, standard deviation 10 / sqrt(12).
        assert abs(snr.mean() - 15) < 4 * 2.89 / 200**0.5
        assert abs(snr.std() - 2.89) < 0.5


def test_added_noise_is_a_piece_of_a_recording_and_short_ones_are_repeated(noises):
    x = speech()
    added = Augmentation(AugmentationSettings(noise_folder=noises))(x, generator()) - x
    seen = set()
    for row in added.double().numpy():
        for name, seconds in (("long", 3.0), ("short", 0.3)):
            recording = np.resize(voice(name, seconds), 48_000).astype(float)
            match = fftconvolve(recording, row[::-1], mode="valid")
            first = int(match.argmax())
            piece = recording[first : first + len(row)]
            if np.corrcoef(piece, row)[0, 1] > 0.9999:
                seen.add(name)
                break
        else:
            pytest.fail("the noise of a row is in no recording")
    assert seen == {"long", "short"}


def test_a_recorded_room_is_a_convolution_with_its_response_from_the_peak_on(tmp_path):
    response = np.zeros(4000, np.float32)
    response[100], response[900], response[3500] = 0.8, -0.4, 0.2
    # The second channel is another microphone; only the first is used.
    write(tmp_path / "room.wav", np.stack([response, -response], 1), subtype="FLOAT")
    settings = AugmentationSettings(room_chance=1.0, room_folder=tmp_path, **NOTHING)
    x = speech()
    y = Augmentation(settings)(x, generator())
    wanted = response[100:].astype(np.float64) / np.sqrt(np.square(response).sum())
    for row, result in zip(x.double().numpy(), y.numpy(), strict=True):
        expected = fftconvolve(row, wanted)[: len(row)]
        assert np.abs(result - expected).max() < 1e-6


def test_each_crop_gets_a_room_with_the_chance_asked_for():
    settings = AugmentationSettings(room_chance=0.3, **NOTHING)
    x = speech(400, 2000)
    changed = (Augmentation(settings)(x, generator()) - x).abs().amax(1) > 1e-4
    assert abs(changed.double().mean() - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5


def test_each_crop_gets_noise_with_the_chance_asked_for():
    x = speech(400, 2000)
    changed = Augmentation(AugmentationSettings(noise_chance=0.4))(x, generator()) != x
    assert abs(changed.any(1).double().mean() - 0.4) < 4 * (0.4 * 0.6 / 400) ** 0.5


def test_synthetic_rooms_decay_exponentially_after_the_direct_sound():
    rooms = synthetic_rooms(speech(300), generator())
    assert (rooms[:, 0] == 1).all()
    assert (rooms[:, 1:16] == 0).all()
    direct = -decibels(rooms[:, 1:].square().sum(1))
    assert (direct > DIRECT[0] - 0.01).all()
    assert (direct < DIRECT[1] + 0.01).all()
    # Energy of quarters of the first 0.4 s: their decibels fall by equal steps, room by room.
    energy = rooms[:, 160:6560].square().reshape(300, 4, 1600).sum(2)
    falls = decibels(energy[:, :-1] / energy[:, 1:])
    assert (falls.mean(1) > 60 * 0.1 / 0.8 - 2).all()
    slow = falls.mean(1) < 20
    assert slow.sum() > 100
    assert ((falls[slow, 0] - falls[slow, 2]).abs() < 4).all()


def test_coloured_noise_has_a_straight_spectrum_in_octaves():
    noise = coloured_noise(speech(24, 64_000), generator()).double().numpy()
    frequency, power = welch(noise, 16_000, nperseg=1024)
    band = (frequency > 100) & (frequency < 7000)
    octaves = np.log2(frequency[band])
    slopes = []
    for row in 10 * np.log10(power[:, band]):
        slope, offset = np.polyfit(octaves, row, 1)
        slopes.append(slope)
        assert np.sqrt(np.mean((row - offset - slope * octaves) ** 2)) < 1.5
    assert min(slopes) > -7
    assert max(slopes) < 2
    assert max(slopes) - min(slopes) > 4


def test_the_equaliser_changes_each_row_by_a_smooth_curve_of_the_spread_asked_for():
    x = torch.zeros(200, 16_000)
    x[:, 8000] = 0.1
    y = Augmentation(AugmentationSettings(equaliser=5.0, **NOTHING))(x, generator())
    gains = 20 * torch.log10(torch.fft.rfft(y).abs() / torch.fft.rfft(x).abs())
    inside = gains[:, 100:7000]
    # At a point of the curve the spread is 5 dB, halfway between two it is 5 / sqrt(2).
    assert 3.2 < inside.std() < 5.3
    assert inside.diff(dim=1).abs().max() < 0.5


def test_without_effects_the_batch_is_left_alone():
    x = speech()
    assert torch.equal(Augmentation(AugmentationSettings(**NOTHING))(x, generator()), x)


def test_the_generator_decides_all(noises):
    settings = AugmentationSettings(noise_folder=noises, room_chance=0.5, equaliser=3.0)
    augmentation, x = Augmentation(settings), speech()
    first = augmentation(x, generator(1))
    torch.manual_seed(5)
    assert torch.equal(augmentation(x, generator(1)), first)
    assert not torch.equal(augmentation(x, generator(2)), first)


def test_results_stay_finite_within_full_scale_and_without_gradient(noises):
    x = torch.cat([speech(8) * 100, torch.zeros(8, 16_000)]).requires_grad_()
    settings = AugmentationSettings(room_chance=0.5, equaliser=8.0, snr=(-10, 0))
    for chosen in (settings, settings.model_copy(update={"noise_folder": noises})):
        y = Augmentation(chosen)(x, generator())
        assert torch.isfinite(y).all()
        assert y.abs().max() <= 1
        assert not y.requires_grad


def test_a_folder_without_recordings_or_with_a_silent_room_is_refused(tmp_path):
    with pytest.raises(StudyError, match="has no recordings to augment with"):
        Augmentation(AugmentationSettings(noise_folder=tmp_path))
    write(tmp_path / "room.wav", np.zeros(1000, np.int16))
    with pytest.raises(StudyError, match=r"room\.wav is no room impulse response: it is silent"):
        read_rooms(tmp_path)


def test_wrong_settings_are_refused():
    with pytest.raises(ValidationError):
        AugmentationSettings(noise=1)
    with pytest.raises(ValidationError, match="lowest, highest"):
        AugmentationSettings(snr=(20, 10))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_computes_what_the_processor_does(noises):
    settings = AugmentationSettings(noise_folder=noises, room_chance=0.5, equaliser=3.0)
    x = speech()
    expected = Augmentation(settings)(x, generator())
    # A generator on the processor draws the same numbers for both.
    result = Augmentation(settings, "cuda")(x.cuda(), generator()).cpu()
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-3)
