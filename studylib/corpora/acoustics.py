"""Rooms, microphones, lines and noise: what a recording session adds to clean speech.

A session is a fixed set of numbers, drawn once. Applied to a waveform it adds, in this order,
reverberation, a channel (smooth random equaliser, high-pass, low-pass), noise, and a level. An
effect that is None does nothing; a session with every effect None is the identity.

The embedded corpus, the session effects of recorded corpora, and the degraded test utterances of
the robustness report apply sessions; augmentation draws its rooms and noises here.

All sums, powers and transforms are in float64, because processors round them differently (BLAS and
NumPy choose their instructions by processor): after rounding to int16 the samples are the same.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from studylib.corpora.store import SAMPLE_RATE

FULL_SCALE = 32768
# The equaliser's gains are given at these frequencies (Hz), evenly spaced in octaves.
EQUALISER_HZ = np.geomspace(60, 8000, 9)
HIGH_PASS_ORDER = 3
LOW_PASS_ORDER = 8
MODULATION_HZ = 4.0

# Lowest and highest values that all presets share; see Session.
HIGH_PASS = (30.0, 250.0)
LOW_PASS = (3400.0, 7000.0)
REVERBERATION = (0.1, 0.8)
DIRECT = (-3.0, 9.0)
FIRST_REFLECTION = (0.001, 0.01)  # s after the direct sound
NOISE_SLOPE = (-6.0, 1.0)
NOISE_DEPTH = (0.0, 0.9)
LEVEL = (-41.0, -21.0)


@dataclass(frozen=True)
class Preset:
    """Ranges that sessions are drawn from.

    Attributes
    ----------
    equaliser : float
        Standard deviation of the equaliser's gains, dB.
    low_pass_chance, reverberation_chance : float
        Share of sessions that have one, 0 to 1.
    snr : (float, float)
        Lowest and highest signal-to-noise ratio, dB.
    """

    equaliser: float
    low_pass_chance: float
    reverberation_chance: float
    snr: tuple[float, float]


PRESETS: dict[str, Preset] = {
    "mild": Preset(3.0, 0.20, 0.4, (12.0, 35.0)),
    "mid": Preset(5.0, 0.35, 0.6, (3.0, 25.0)),
    "hard": Preset(7.0, 0.50, 0.7, (-2.0, 18.0)),
}


@dataclass(frozen=True)
class Session:
    """The numbers of one session; None switches an effect off.

    Attributes
    ----------
    equaliser : tuple of 9 float
        Gains at EQUALISER_HZ, dB.
    high_pass, low_pass : float
        Corner frequencies (-3 dB), Hz.
    reverberation : float
        T60: time in which the room's echo falls by 60 dB, s.
    direct : float
        Energy of the direct sound relative to that of the echo, dB.
    snr : float
        Power of the (reverberant, filtered) speech relative to that of the noise, dB.
    noise_slope : float
        Spectrum of the noise, dB an octave (0 white, -3 pink).
    noise_depth : float
        Depth of the noise's slow modulation, 0 (steady) to 1.
    level : float
        Root mean square of the result, dB relative to full scale; lowered where peaks would clip.
    room_seed : int
        Seed of the room's echo, which all recordings of a session share.
    """

    equaliser: tuple[float, ...] | None = None
    high_pass: float | None = None
    low_pass: float | None = None
    reverberation: float | None = None
    direct: float = 3.0
    snr: float | None = None
    noise_slope: float = 0.0
    noise_depth: float = 0.0
    level: float | None = None
    room_seed: int = 0


def draw_session(preset: Preset, rng: np.random.Generator) -> Session:
    """Draw one session of a preset."""
    # Rounded, because processors differ in the last digit of exp, and the number is published.
    low_pass = round(float(np.exp(rng.uniform(*np.log(LOW_PASS)))), 3)
    reverberation = rng.uniform(*REVERBERATION)
    has_low_pass, has_reverberation = rng.random(2) < (
        preset.low_pass_chance,
        preset.reverberation_chance,
    )
    return Session(
        equaliser=tuple(rng.normal(0.0, preset.equaliser, len(EQUALISER_HZ)).tolist()),
        high_pass=rng.uniform(*HIGH_PASS),
        low_pass=low_pass if has_low_pass else None,
        reverberation=reverberation if has_reverberation else None,
        direct=rng.uniform(*DIRECT),
        snr=rng.uniform(*preset.snr),
        noise_slope=rng.uniform(*NOISE_SLOPE),
        noise_depth=rng.uniform(*NOISE_DEPTH),
        level=rng.uniform(*LEVEL),
        room_seed=int(rng.integers(2**32)),
    )


def apply_session(waveform: np.ndarray, session: Session, rng: np.random.Generator) -> np.ndarray:
    """Apply a session to one waveform.

    Parameters
    ----------
    waveform : (S,) int16, or float64 with full scale 1
        16 kHz.
    session : Session
    rng : numpy Generator
        Draws the noise.

    Returns
    -------
    (S,) of the same type
    """
    is_int16 = waveform.dtype == np.int16
    signal = waveform / FULL_SCALE if is_int16 else waveform
    signal = _reverberate_and_filter(signal, session)
    if session.snr is not None:
        noise = _noise(len(signal), session, rng)
        signal = signal + noise * (_rms(signal) / _rms(noise) * 10 ** (-session.snr / 20))
    if session.level is not None:
        gain = 10 ** (session.level / 20) / max(_rms(signal), 1e-9)
        signal = signal * min(gain, 0.99 / max(np.abs(signal).max(), 1e-9))
    return to_int16(signal) if is_int16 else signal


def draw_room(rng: np.random.Generator) -> np.ndarray:
    """Draw the impulse response of a room, (0.1 to 0.8 s,) float64; see `_impulse_response`."""
    reverberation, direct = rng.uniform(*REVERBERATION), rng.uniform(*DIRECT)
    return _impulse_response(
        Session(reverberation=reverberation, direct=direct, room_seed=int(rng.integers(2**32)))
    )


def draw_noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a coloured noise, (samples,) float64 of no particular level; see `_noise`."""
    slope, depth = rng.uniform(*NOISE_SLOPE), rng.uniform(*NOISE_DEPTH)
    return _noise(samples, Session(noise_slope=slope, noise_depth=depth), rng)


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Full scale 1 -> int16, rounded and clipped."""
    return np.clip(np.rint(waveform * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def _reverberate_and_filter(signal: np.ndarray, session: Session) -> np.ndarray:
    response = _impulse_response(session)
    # Zeros for the echo and the filters' tails: the circular convolution must not wrap around.
    size = next_fast_len(len(signal) + max(len(response), SAMPLE_RATE // 8), real=True)
    spectrum = rfft(signal, size) * _gains(session, size)
    if len(response) > 1:
        spectrum *= rfft(response, size)
    return irfft(spectrum, size)[: len(signal)]


def _impulse_response(session: Session) -> np.ndarray:
    """A room's response to a unit impulse: the impulse, then noise that decays exponentially."""
    if session.reverberation is None:
        return np.ones(1)
    rng = np.random.default_rng(session.room_seed)
    time = np.arange(int(session.reverberation * SAMPLE_RATE)) / SAMPLE_RATE
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / session.reverberation)
    response[: int(rng.uniform(*FIRST_REFLECTION) * SAMPLE_RATE)] = 0
    # Summed by NumPy: a norm or a dot product would go through BLAS.
    response *= 10 ** (-session.direct / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1
    return response


def _noise(samples: int, session: Session, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of a constant slope in dB an octave, slowly modulated, channel applied."""
    size = next_fast_len(samples, real=True)
    gain = _gains(session, size, session.noise_slope)
    bins = rng.standard_normal(2 * len(gain)).view(np.complex128)
    noise = irfft(bins * gain, size)[:samples]
    points = int(samples / SAMPLE_RATE * MODULATION_HZ) + 2
    modulation = 1 + session.noise_depth * rng.uniform(-1, 1, points)
    return noise * np.interp(np.linspace(0, points - 1, samples), np.arange(points), modulation)


def _gains(session: Session, size: int, slope: float = 0.0) -> np.ndarray:
    """Gains of a channel, and of a slope in dB an octave, at the bins of a transform of `size`."""
    # Smooth in frequency, so a table of 1,025 points is enough and costs a tenth.
    grid = np.linspace(0, SAMPLE_RATE / 2, 1025)
    frequency = np.maximum(grid, 1.0)
    gain = (np.maximum(grid, 50.0) / 1000) ** (slope / (20 * np.log10(2)))
    if session.equaliser:
        decibels = np.interp(np.log(frequency), np.log(EQUALISER_HZ), session.equaliser)
        gain *= 10 ** (decibels / 20)
    # Amplitudes of Butterworth filters, without their phase.
    if session.high_pass:
        gain /= np.sqrt(1 + (session.high_pass / frequency) ** (2 * HIGH_PASS_ORDER))
    if session.low_pass:
        gain /= np.sqrt(1 + (frequency / session.low_pass) ** (2 * LOW_PASS_ORDER))
    return np.interp(rfftfreq(size, 1 / SAMPLE_RATE), grid, gain)


def _rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(signal**2)))
