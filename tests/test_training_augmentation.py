"""Augmentation of batches: the promised SNR, convolutions as SciPy computes them, reproducible."""

import numpy as np
import pytest
import torch
from scipy.signal import fftconvolve
from trees import voice, write

from studylib.errors import StudyError
from studylib.training import augmentation as augmenting
from studylib.training.augmentation import Augmentation
from studylib.training.settings import AugmentationSettings


@pytest.fixture(autouse=True)
def few_rooms_and_noises(monkeypatch):
    monkeypatch.setattr(augmenting, "DRAWN_ROOMS", 50)
    monkeypatch.setattr(augmenting, "DRAWN_NOISES", 10)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def augmentation(noise_chance=0.0, seed=0, device="cpu", **settings):
    settings = AugmentationSettings(noise_chance=noise_chance, **settings)
    whole = Augmentation(settings, device, seed)
    return lambda x, generator: whole(x, generator, slice(None), len(x))


def speech(rows=32, samples=16_000):
    return 0.05 * torch.randn(rows, samples, generator=generator(99))


@pytest.fixture
def noises(tmp_path):
    write(tmp_path / "music" / "long.wav", voice("long", 12.0))
    write(tmp_path / "short.wav", voice("short", 0.3))
    return tmp_path


def test_noise_is_added_at_the_snr_of_paper_a(noises):
    x = speech(200)
    for folder in (None, noises):
        added = augmentation(1.0, noise_folder=folder)(x, generator()) - x
        snr = 10 * torch.log10(x.square().mean(1) / added.square().mean(1))
        assert ((snr > 9.99) & (snr < 20.01)).all()
        # Uniform: mean 15, standard deviation 10 / sqrt(12).
        assert abs(snr.mean() - 15) < 4 * 2.89 / 200**0.5
        assert abs(snr.std() - 2.89) < 0.5


def is_piece_of(recording, row):
    first = int(fftconvolve(recording, row[::-1], mode="valid").argmax())
    return np.corrcoef(recording[first : first + len(row)], row)[0, 1] > 0.9999


def test_added_noise_is_a_piece_of_a_recording_and_short_ones_are_repeated(noises):
    x = speech()
    added = augmentation(1.0, noise_folder=noises)(x, generator()) - x
    long = voice("long", 12.0).astype(float)
    short = np.resize(voice("short", 0.3), 32_000).astype(float)
    found = [(is_piece_of(long, row), is_piece_of(short, row)) for row in added.double().numpy()]
    assert set(found) == {(True, False), (False, True)}


def test_a_recorded_room_is_a_convolution_with_its_response_from_the_peak_on(tmp_path):
    response = np.zeros(4000)
    response[100], response[900], response[3500] = 0.5, -0.25, 0.125
    write(tmp_path / "room.wav", response)
    x = speech()
    y = augmentation(room_chance=1.0, room_folder=tmp_path)(x, generator())
    wanted = response[100:] / np.sqrt(np.sum(response**2))
    for row, result in zip(x.double().numpy(), y.numpy(), strict=True):
        assert np.abs(result - fftconvolve(row, wanted)[: len(row)]).max() < 1e-6


@pytest.mark.parametrize("effect", ["room_chance", "noise_chance"])
def test_each_crop_gets_a_room_or_noise_with_the_chance_asked_for(effect):
    x = speech(400, 2000)
    for chance in (0.0, 0.3):
        changed = augmentation(**{"noise_chance": 0.0, effect: chance})(x, generator()) != x
        share = changed.any(1).double().mean()
        assert abs(share - chance) <= 4 * (chance * (1 - chance) / 400) ** 0.5


def test_a_part_of_a_batch_is_augmented_as_in_the_whole():
    settings = AugmentationSettings(noise_chance=0.5, room_chance=0.5)
    augment, places = Augmentation(settings, "cpu", 0), torch.tensor([5, 0, 9])
    whole = augment(speech(), generator(), slice(None), 32)
    part = augment(speech()[places], generator(), places, 32)
    torch.testing.assert_close(part, whole[places], rtol=0, atol=1e-6)


def test_results_stay_finite_within_full_scale_and_without_gradient(tmp_path):
    # A recording with long silence: for its silent crops there is no signal-to-noise ratio.
    write(tmp_path / "noise.wav", np.pad(voice("bang", 0.1), (0, 300_000)))
    x = torch.cat([speech(8) * 100, torch.zeros(8, 16_000), speech(8)]).requires_grad_()
    for folder in (None, tmp_path):
        y = augmentation(1.0, snr=(-10, 0), room_chance=0.5, noise_folder=folder)(x, generator())
        assert torch.isfinite(y).all()
        assert y.abs().max() <= 1
        assert not y.requires_grad


def test_users_mistakes_are_named(tmp_path):
    with pytest.raises(StudyError, match="has no recordings to augment with"):
        augmentation(1.0, noise_folder=tmp_path)


@pytest.mark.gpu
def test_a_gpu_computes_what_the_processor_does(noises):
    settings = {"noise_chance": 1.0, "noise_folder": noises, "room_chance": 0.5}
    expected = augmentation(**settings)(speech(), generator())
    # A generator on the processor draws the same numbers for both.
    result = augmentation(**settings, device="cuda")(speech().cuda(), generator()).cpu()
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-3)
