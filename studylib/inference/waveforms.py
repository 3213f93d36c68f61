"""Recordings of any rate and any channels -> 16 kHz, one channel, floats in [-1, 1]."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

from studylib.errors import StudyError
from studylib.files.sound import check_waveform, read_sound
from studylib.models.features import SAMPLE_RATE, SHORTEST

GRID = 25  # Hz: the filters that resample from 8,001 Hz itself would be 16,000 long ones
SILENCE = 1e-4  # largest difference between samples, 3 steps of 16 bits

FRAME = 400  # samples: 25 ms
BELOW_SPEECH = 30.0  # dB below the loud frames: no speech
FEW_SECONDS = 2.0
CLIPPED_SHARE = 0.001
EMPTY_BAND, TELEPHONE = 2e-5, 5_000  # share of the power above a telephone's band, Hz


def read_waveform(path: str | Path) -> Tensor:
    """Read a whole file: (S,) float32 at 16 kHz.

    Raises
    ------
    StudyError
        A file that is missing, not audio, silent, shorter than half a second, or has a rate or
        samples that no recording has.
    """
    samples, rate = read_sound(Path(path))
    return as_mono(torch.from_numpy(samples.T), rate, str(path))


def as_mono(waveform: Tensor, rate: int, name: str = "the waveform") -> Tensor:
    """(S,) or (channels, S) floats in [-1, 1] at any rate in Hz -> (s,) at 16 kHz.

    Channels are averaged. The rate is taken to the nearest multiple of 25 Hz, at most 0.3 % away.
    """
    samples = waveform.movedim(-1, 0).numpy(force=True)
    check_waveform(samples, rate, name, SHORTEST / SAMPLE_RATE)
    mono = waveform.float().mean(dim=0) if waveform.ndim == 2 else waveform.float()
    if mono.max() - mono.min() < SILENCE:
        raise StudyError(f"{name} holds nothing but silence")
    return resample(mono, GRID * round(rate / GRID), SAMPLE_RATE, lowpass_filter_width=64)


def weaknesses(waveform: Tensor) -> list[str]:
    """What makes a recording (S,) unfit to be judged: little speech, clipping, a narrow band."""
    samples, found = waveform.double().numpy(), []
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power = frames.var(axis=1)
    spoken = power > np.quantile(power, 0.95) * 10 ** (-BELOW_SPEECH / 10)
    if (seconds := spoken.sum() * FRAME / SAMPLE_RATE) < FEW_SECONDS:
        found.append(f"only {seconds:.1f} s of speech (better: {FEW_SECONDS:.0f} s or more)")
    if spoken.mean() < 0.5:
        found.append(f"{1 - spoken.mean():.0%} of it is silence")
    if np.mean(np.abs(samples) > 0.99 * np.abs(samples).max()) > CLIPPED_SHARE:
        found.append("it is clipped: its loudest samples are cut off")
    spectrum = (np.abs(np.fft.rfft(frames[spoken] * np.hanning(FRAME))) ** 2).mean(axis=0)
    if spectrum[TELEPHONE * FRAME // SAMPLE_RATE :].sum() < EMPTY_BAND * spectrum.sum():
        found.append("it has a narrow band: nothing above 4 kHz, as on a telephone")
    return found
