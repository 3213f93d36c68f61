"""Session effects: what a room, a microphone and a line add to a clean recording.

One session is a fixed set of numbers, drawn once. Applied to a waveform it adds, in this order,
reverberation, a channel (smooth random equaliser, high-pass, low-pass), noise, and a level. Any
effect left at None does nothing; a session with everything at None is the identity.

The same functions serve the embedded corpus, training-time augmentation and the noisy evaluation
of clean corpora; presets `mild`, `mid` and `hard` say how far sessions differ.
"""

from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from studylib.corpora.store import SAMPLE_RATE

# The equaliser's gains are given at these frequencies (Hz), evenly spaced in octaves.
EQUALISER_HZ = np.geomspace(60, 8000, 9)
HIGH_PASS_ORDER = 3
LOW_PASS_ORDER = 8
MODULATION_HZ = 4.0
FULL_SCALE = 32768.0


@dataclass(frozen=True)
class Preset:
    """Ranges that sessions are drawn from.

    Attributes
    ----------
    equaliser : float
        Standard deviation of the equaliser's gains, dB.
    low_pass_chance, reverberation_chance : float
        How many sessions have one, 0 to 1.
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
        Time in which the room's echo falls by 60 dB, s.
    direct : float
        Energy of the direct sound relative to that of the echo, dB.
    snr : float
        Power of the (reverberant, filtered) speech relative to that of the noise, dB.
    noise_slope : float
        Spectrum of the noise, dB an octave (0 white, -3 pink).
    noise_depth : float
        How much the noise swells, 0 (steady) to 1.
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
    low_pass = np.exp(rng.uniform(np.log(3400), np.log(7000)))
    reverberation = rng.uniform(0.1, 0.8)
    has_low_pass, has_reverberation = rng.random(2) < (
        preset.low_pass_chance,
        preset.reverberation_chance,
    )
    return Session(
        equaliser=tuple(rng.normal(0.0, preset.equaliser, len(EQUALISER_HZ)).tolist()),
        high_pass=float(rng.uniform(30, 250)),
        low_pass=float(low_pass) if has_low_pass else None,
        reverberation=float(reverberation) if has_reverberation else None,
        direct=float(rng.uniform(-3, 9)),
        snr=float(rng.uniform(*preset.snr)),
        noise_slope=float(rng.uniform(-6, 1)),
        noise_depth=float(rng.uniform(0, 0.9)),
        level=float(rng.uniform(-41, -21)),
        room_seed=int(rng.integers(2**32)),
    )


def apply_session(waveform: np.ndarray, session: Session, rng: np.random.Generator) -> np.ndarray:
    """Apply a session to one waveform.

    Parameters
    ----------
    waveform : (S,) int16, or float with full scale 1
        16 kHz.
    session : Session
    rng : numpy Generator
        Draws the noise.

    Returns
    -------
    (S,) of the same type
    """
    is_int16 = waveform.dtype == np.int16
    if waveform.ndim != 1 or not (is_int16 or np.issubdtype(waveform.dtype, np.floating)):
        raise ValueError("waveform must be one row of int16 or float samples")
    signal = waveform.astype(np.float32)
    if is_int16:
        signal /= FULL_SCALE
    channel = _channel(session)
    signal = _reverberate_and_filter(signal, session, channel)
    if session.snr is not None:
        signal = signal + _noise(signal, session, channel, rng)
    signal = _set_level(signal, session.level)
    if not is_int16:
        return signal.astype(waveform.dtype)
    return np.clip(np.rint(signal * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def _channel(session: Session):
    """Function from frequency (Hz) to amplitude, or None if the channel does nothing."""
    if session.equaliser is None and session.high_pass is None and session.low_pass is None:
        return None

    def amplitude(frequency: np.ndarray) -> np.ndarray:
        frequency = np.maximum(frequency, 1.0)
        gain = np.ones_like(frequency)
        if session.equaliser:
            decibels = np.interp(np.log(frequency), np.log(EQUALISER_HZ), session.equaliser)
            gain *= 10 ** (decibels / 20)
        # Amplitudes of Butterworth filters, without their phase.
        if session.high_pass:
            gain /= np.sqrt(1 + (session.high_pass / frequency) ** (2 * HIGH_PASS_ORDER))
        if session.low_pass:
            gain /= np.sqrt(1 + (frequency / session.low_pass) ** (2 * LOW_PASS_ORDER))
        return gain

    # Smooth in frequency, so a table of 1,025 points will do and costs a tenth.
    grid = np.linspace(0, SAMPLE_RATE / 2, 1025)
    values = amplitude(grid)
    return lambda frequency: np.interp(frequency, grid, values).astype(np.float32)


def _reverberate_and_filter(signal: np.ndarray, session: Session, channel) -> np.ndarray:
    if channel is None and session.reverberation is None:
        return signal
    echo = _echo(session)
    # Room for the echo, and for the filters' tails, so that the end does not fold to the start.
    size = next_fast_len(len(signal) + max(len(echo), SAMPLE_RATE // 8), real=True)
    spectrum = rfft(signal, size)
    if len(echo):
        spectrum *= 1 + rfft(echo, size)
    if channel is not None:
        spectrum *= channel(_frequencies(size))
    return irfft(spectrum, size)[: len(signal)]


def _echo(session: Session) -> np.ndarray:
    """A room's response after the direct sound: noise that decays exponentially."""
    if session.reverberation is None:
        return np.empty(0, dtype=np.float32)
    rng = np.random.default_rng(session.room_seed)
    time = np.arange(int(session.reverberation * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    echo = rng.standard_normal(len(time), dtype=np.float32)
    echo *= 10 ** (-3 * time / session.reverberation)
    # The first reflection comes a few milliseconds after the direct sound.
    echo[: int(rng.uniform(0.001, 0.01) * SAMPLE_RATE)] = 0
    return echo * np.float32(10 ** (-session.direct / 20) / np.linalg.norm(echo))


def _noise(signal: np.ndarray, session: Session, channel, rng: np.random.Generator) -> np.ndarray:
    """Noise that swells slowly, through the same channel, at the session's SNR."""
    size = next_fast_len(len(signal), real=True)
    frequency = _frequencies(size)
    octaves = np.log2(np.maximum(frequency, 50.0) / 1000.0)
    shape = (10 ** (session.noise_slope * octaves / 20)).astype(np.float32)
    if channel is not None:
        shape *= channel(frequency)
    bins = rng.standard_normal(2 * len(frequency), dtype=np.float32).view(np.complex64)
    noise = irfft(bins * shape, size)[: len(signal)]
    points = max(2, int(len(signal) / SAMPLE_RATE * MODULATION_HZ) + 2)
    swell = 1 + session.noise_depth * rng.uniform(-1, 1, points)
    noise *= np.interp(np.linspace(0, points - 1, len(signal)), np.arange(points), swell)
    return noise * (_rms(signal) / max(_rms(noise), 1e-12) * np.float32(10 ** (-session.snr / 20)))


def _set_level(signal: np.ndarray, level: float | None) -> np.ndarray:
    if level is None:
        return signal
    gain = 10 ** (level / 20) / max(_rms(signal), 1e-9)
    return signal * np.float32(min(gain, 0.99 / max(float(np.abs(signal).max()), 1e-9)))


def _frequencies(size: int) -> np.ndarray:
    return np.arange(size // 2 + 1, dtype=np.float32) * (SAMPLE_RATE / size)


def _rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
