"""Training-time augmentation: noise, rooms and channels, a whole batch at once.

Off by default, as in paper B. Paper A adds background noise at 10-20 dB SNR to every crop: that is
`AugmentationSettings(noise_folder=...)`. Without folders, rooms and noise are drawn as the session
effects of `studylib.corpora.acoustics` are.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.fft import next_fast_len
from torch import Generator, Tensor

from studylib.corpora.acoustics import EQUALISER_HZ, MODULATION_HZ
from studylib.corpora.audio import audio_files, decode, read_waveform, resample
from studylib.corpora.store import SAMPLE_RATE
from studylib.errors import StudyError
from studylib.files.paths import project_root

LONGEST_ROOM = SAMPLE_RATE  # samples; 1 s
REVERBERATION = (0.1, 0.8)  # s until the echo has fallen by 60 dB
DIRECT = (-3.0, 9.0)  # energy of the direct sound relative to the echo, dB
FIRST_REFLECTION = (0.001, 0.01)  # s
NOISE_SLOPE = (-6.0, 1.0)  # dB an octave
NOISE_DEPTH = (0.0, 0.9)  # how much the noise swells

Chance = Annotated[float, Field(ge=0, le=1)]


class AugmentationSettings(BaseModel):
    """What is done to training crops.

    Attributes
    ----------
    noise_chance : float
        Share of crops that get noise.
    noise_folder : Path or None
        Recordings of noise, such as MUSAN's (Snyder et al. 2015); None draws coloured noise.
    snr : (float, float)
        Lowest and highest signal-to-noise ratio, dB.
    room_chance : float
        Share of crops that get a room.
    room_folder : Path or None
        Room impulse responses (the first channel is used); None draws decaying noise.
    equaliser : float
        Standard deviation of a smooth random channel's gains, dB; 0 leaves the channel as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise_chance: Chance = 1.0
    noise_folder: Path | None = None
    snr: tuple[float, float] = (10.0, 20.0)
    room_chance: Chance = 0.0
    room_folder: Path | None = None
    equaliser: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentationSettings":
        if self.snr[0] > self.snr[1]:
            raise ValueError("snr is (lowest, highest)")
        return self


class Augmentation:
    """Augments batches of crops, on the device they are on.

    Parameters
    ----------
    settings : AugmentationSettings
    device : torch.device
        Where noise and rooms are kept (two bytes a sample of noise).

    Raises
    ------
    StudyError
        If a folder has no recordings, or one of them cannot be read.
    """

    def __init__(self, settings: AugmentationSettings, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self._noise = self._rooms = None
        if settings.noise_folder is not None and settings.noise_chance:
            self._noise = _Recordings(settings.noise_folder, device)
        if settings.room_folder is not None and settings.room_chance:
            self._rooms = read_rooms(settings.room_folder).to(device)

    @torch.no_grad()
    def __call__(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """Augment a batch.

        Parameters
        ----------
        waveforms : (B, S) float32
            Full scale 1.
        generator : torch.Generator
            All that is random comes from it; on the waveforms' device it is fastest.

        Returns
        -------
        (B, S) float32
            Rows whose peaks would exceed full scale are turned down.
        """
        result = self._channel(waveforms, generator)
        if self.settings.noise_chance:
            result = result + self._scaled_noise(result, generator)
        return result / result.abs().amax(dim=1, keepdim=True).clamp(min=1.0)

    def _channel(self, waveforms: Tensor, generator: Generator) -> Tensor:
        """Room and equaliser, in one convolution."""
        settings, (batch, samples) = self.settings, waveforms.shape
        if not settings.room_chance and not settings.equaliser:
            return waveforms
        responses = _impulse(waveforms)
        if settings.room_chance:
            chosen = _chosen(settings.room_chance, batch, generator, waveforms)
            responses = torch.where(chosen, self._draw_rooms(waveforms, generator), responses)
        # Room for the tails, so that the end does not fold to the start.
        size = next_fast_len(samples + LONGEST_ROOM, real=True)
        spectrum = torch.fft.rfft(waveforms, size) * torch.fft.rfft(responses, size)
        if settings.equaliser:
            points = _normal((batch, len(EQUALISER_HZ)), generator, waveforms)
            curve = _octave_interpolation(size, waveforms.dtype, waveforms.device)
            spectrum = spectrum * 10 ** (settings.equaliser * points @ curve / 20)
        return torch.fft.irfft(spectrum, size)[:, :samples]

    def _draw_rooms(self, like: Tensor, generator: Generator) -> Tensor:
        if self._rooms is None:
            return synthetic_rooms(like, generator)
        rows = _integers(len(self._rooms), (len(like),), generator, like)
        return self._rooms[rows]

    def _scaled_noise(self, speech: Tensor, generator: Generator) -> Tensor:
        """Noise at the drawn SNR; zero for crops that are to stay clean."""
        batch = len(speech)
        if self._noise is None:
            noise = coloured_noise(speech, generator)
        else:
            noise = self._noise.crops(speech, generator)
        snr = _uniform(self.settings.snr, (batch, 1), generator, speech)
        wanted = speech.square().mean(dim=1, keepdim=True) * 10 ** (-snr / 10)
        power = noise.square().mean(dim=1, keepdim=True).clamp(min=1e-12)
        chosen = _chosen(self.settings.noise_chance, batch, generator, speech)
        return noise * torch.where(chosen, (wanted / power).sqrt(), 0.0)


def open_augmentation(
    settings: Mapping[str, Any] | None, device: torch.device | str
) -> Augmentation | None:
    """The augmentation that parameters ask for; their folders count from the project's root."""
    if settings is None:
        return None
    checked = AugmentationSettings.model_validate(settings)
    folders = {
        key: project_root() / folder
        for key in ("noise_folder", "room_folder")
        if (folder := getattr(checked, key)) is not None
    }
    return Augmentation(checked.model_copy(update=folders), device)


class _Recordings:
    """Recordings of noise, one after another in one tensor."""

    def __init__(self, folder: Path, device: torch.device | str) -> None:
        recordings = [decode(path) for path in _paths(folder)]
        lengths = [len(samples) for samples in recordings]
        self.samples = torch.from_numpy(np.concatenate(recordings)).to(device)
        self.lengths = torch.tensor(lengths, device=device)
        self.starts = torch.cumsum(self.lengths, 0) - self.lengths

    def crops(self, like: Tensor, generator: Generator) -> Tensor:
        """One random piece of a random recording a row; short recordings are repeated."""
        batch, samples = like.shape
        rows = _integers(len(self.lengths), (batch,), generator, like)
        lengths = self.lengths[rows, None]
        shares = _uniform((0.0, 1.0), (batch, 1), generator, like)
        first = (shares * (lengths - samples + 1).clamp(min=1)).long()
        within = (first + torch.arange(samples, device=like.device)) % lengths
        return self.samples[self.starts[rows, None] + within].to(like.dtype) / 32768


def read_rooms(folder: Path) -> Tensor:
    """Room impulse responses of a folder, (R, 1 s) float32: from their peak on, energy 1."""
    responses = []
    for path in _paths(folder):
        waveform, rate = read_waveform(path)
        response = resample(waveform[:, 0], rate)
        response = response[np.abs(response).argmax() :][:LONGEST_ROOM]
        energy = np.square(response, dtype=np.float64).sum()
        if not energy:
            raise StudyError(f"{path} is no room impulse response: it is silent.")
        row = torch.zeros(LONGEST_ROOM)
        row[: len(response)] = torch.from_numpy(response / np.float32(np.sqrt(energy)))
        responses.append(row)
    return torch.stack(responses)


def synthetic_rooms(like: Tensor, generator: Generator) -> Tensor:
    """A room for each row, (B, 1 s): the direct sound, then noise that decays exponentially."""
    batch = len(like)
    time = torch.arange(LONGEST_ROOM, device=like.device) / SAMPLE_RATE
    reverberation = _uniform(REVERBERATION, (batch, 1), generator, like)
    echo = _normal((batch, LONGEST_ROOM), generator, like) * 10 ** (-3 * time / reverberation)
    echo = echo * (time >= _uniform(FIRST_REFLECTION, (batch, 1), generator, like))
    direct = _uniform(DIRECT, (batch, 1), generator, like)
    echo = echo * 10 ** (-direct / 20) / echo.norm(dim=1, keepdim=True)
    echo[:, 0] = 1.0
    return echo


def coloured_noise(like: Tensor, generator: Generator) -> Tensor:
    """Noise for each row, (B, S): a random slope of its spectrum, swelling slowly."""
    batch, samples = like.shape
    size = next_fast_len(samples, real=True)
    frequency = torch.arange(size // 2 + 1, device=like.device) * (SAMPLE_RATE / size)
    octaves = torch.log2(frequency.clamp(min=50.0) / 1000.0)
    slope = _uniform(NOISE_SLOPE, (batch, 1), generator, like)
    bins = torch.view_as_complex(_normal((batch, len(frequency), 2), generator, like))
    noise = torch.fft.irfft(bins * 10 ** (slope * octaves / 20), size)[:, :samples]
    points = int(samples / SAMPLE_RATE * MODULATION_HZ) + 2
    depth = _uniform(NOISE_DEPTH, (batch, 1), generator, like)
    swell = 1 + depth * _uniform((-1.0, 1.0), (batch, points), generator, like)
    swell = torch.nn.functional.interpolate(
        swell[:, None], samples, mode="linear", align_corners=True
    )
    return noise * swell[:, 0]


def _paths(folder: Path) -> list[Path]:
    paths = [Path(path) for path in sorted(audio_files(folder))]
    if not paths:
        raise StudyError(f"{folder} has no recordings to augment with.")
    return paths


@functools.lru_cache(maxsize=2)  # the same at every step, and a copy to a GPU is waited for
def _octave_interpolation(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """(9, size // 2 + 1): gains at EQUALISER_HZ -> gains of all bins, linear in octaves."""
    frequency = np.arange(size // 2 + 1) * (SAMPLE_RATE / size)
    octave = np.log2(np.clip(frequency, EQUALISER_HZ[0], EQUALISER_HZ[-1]))
    unit = np.eye(len(EQUALISER_HZ))
    rows = [np.interp(octave, np.log2(EQUALISER_HZ), row) for row in unit]
    return torch.from_numpy(np.stack(rows)).to(device, dtype)


def _impulse(like: Tensor) -> Tensor:
    response = torch.zeros(1, LONGEST_ROOM, dtype=like.dtype, device=like.device)
    response[:, 0] = 1.0
    return response


def _chosen(chance: float, batch: int, generator: Generator, like: Tensor) -> Tensor:
    return _uniform((0.0, 1.0), (batch, 1), generator, like) < chance


def _uniform(span: tuple[float, float], shape: tuple, generator: Generator, like: Tensor) -> Tensor:
    draw = torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return span[0] + (span[1] - span[0]) * draw.to(like.device)


def _normal(shape: tuple, generator: Generator, like: Tensor) -> Tensor:
    draw = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return draw.to(like.device)


def _integers(below: int, shape: tuple, generator: Generator, like: Tensor) -> Tensor:
    draw = torch.randint(below, shape, generator=generator, device=generator.device)
    return draw.to(like.device)
