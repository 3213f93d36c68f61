"""Session effects measured in their output: SNR, corner frequencies, echo decay, level."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import welch

from studylib.corpora import acoustics
from studylib.corpora.acoustics import PRESETS, Session, apply_session, draw_session

RATE = 16_000


def rng(seed=0):
    return np.random.default_rng(seed)


def decibels(power):
    return 10 * np.log10(power)


@pytest.fixture(scope="module")
def noise():
    """White noise stands for speech: its spectrum is flat, so a filter is seen as it is."""
    return rng(1).normal(0, 0.05, 10 * RATE)


@pytest.fixture(scope="module")
def speech(noise):
    swell = np.abs(np.sin(np.arange(5 * RATE) * 2 * np.pi * 3 / RATE))
    return (noise[: 5 * RATE] * swell * 32768).astype(np.int16)


@pytest.mark.parametrize(("snr", "seed"), [(-2.0, 0), (10.0, 1), (35.0, 2)])
def test_the_snr_is_the_one_asked_for_whatever_else_the_session_does(speech, snr, seed):
    session = replace(draw_session(PRESETS["hard"], rng(seed)), snr=snr, level=None)
    both = apply_session(speech / 32768, session, rng(7))
    alone = apply_session(speech / 32768, replace(session, snr=None), rng(7))
    measured = decibels(np.mean(alone**2) / np.mean((both - alone) ** 2))
    assert measured == pytest.approx(snr, abs=0.5)


def gain_of(session, noise, frequency):
    out = apply_session(noise, session, rng())
    bins, before = welch(noise, RATE, nperseg=2048)
    _, after = welch(out, RATE, nperseg=2048)
    return np.interp(frequency, bins, decibels(after / before))


def test_filters_pass_and_stop_where_they_should(noise):
    session = Session(high_pass=200.0, low_pass=4000.0)
    assert gain_of(session, noise, [200, 4000]) == pytest.approx([-3, -3], abs=0.7)
    assert gain_of(session, noise, [600, 2000]) == pytest.approx([0, 0], abs=0.3)
    assert (gain_of(session, noise, [60, 6500]) < -25).all()


def test_the_equaliser_has_its_gains_at_its_frequencies(noise):
    gains = tuple(rng(2).normal(0, 5, len(acoustics.EQUALISER_HZ)).tolist())
    measured = gain_of(Session(equaliser=gains), noise, acoustics.EQUALISER_HZ[2:-1])
    assert measured == pytest.approx(gains[2:-1], abs=0.8)


@pytest.mark.parametrize("seconds", [0.2, 0.7])
def test_an_echo_falls_by_60_db_in_the_reverberation_time(seconds):
    click = np.zeros(RATE)
    click[0] = 1.0
    echo = apply_session(click, Session(reverberation=seconds, direct=0.0, room_seed=4), rng())
    assert echo[0] == pytest.approx(1.0, abs=1e-6)
    # Energies of the direct sound and of the echo are equal at 0 dB.
    assert np.sum(echo[1:] ** 2) == pytest.approx(1.0, rel=0.01)
    start = int(0.02 * RATE)
    blocks = echo[start : start + int(0.7 * seconds * RATE)]
    size = len(blocks) // 20
    energy = decibels((blocks[: 20 * size].reshape(20, size) ** 2).mean(axis=1))
    slope = np.polyfit(np.arange(20) * size / RATE, energy, 1)[0]
    assert -60 / slope == pytest.approx(seconds, rel=0.1)


def test_an_echo_neither_comes_before_its_sound_nor_out_of_silence():
    late = np.zeros(RATE)
    late[-1600:] = 0.5
    out = apply_session(late, Session(reverberation=0.8), rng())
    assert np.abs(out[: RATE - 1600]).max() < 1e-9
    silence = np.zeros(RATE, dtype=np.int16)
    assert not apply_session(silence, draw_session(PRESETS["hard"], rng()), rng()).any()


def test_the_level_is_the_one_asked_for_unless_it_would_clip(speech):
    out = apply_session(speech, Session(level=-40.0, snr=10.0), rng())
    assert decibels(np.mean((out / 32768) ** 2)) == pytest.approx(-40.0, abs=0.05)
    peaky = np.zeros(RATE)
    peaky[::4000] = 0.5
    out = apply_session(peaky, Session(level=-10.0), rng())
    assert np.abs(out).max() == pytest.approx(0.99, abs=1e-3)


def slope_of(noise):
    """Of a spectrum, dB an octave."""
    frequency, power = welch(noise, RATE, nperseg=1024)
    band = (frequency > 100) & (frequency < 7000)
    return np.polyfit(np.log2(frequency[band]), decibels(power[band]), 1)[0]


@pytest.mark.parametrize("slope", [-6.0, 0.0])
def test_a_sessions_noise_has_the_slope_asked_for(noise, slope):
    session = Session(snr=0.0, noise_slope=slope, noise_depth=0.5)
    assert slope_of(apply_session(noise, session, rng()) - noise) == pytest.approx(slope, abs=0.2)
