"""Training-time augmentation: rooms and noise, a whole batch at once, on the batch's device.

Off by default, as in paper B. Paper A adds background noise at 10-20 dB SNR to every crop: that is
`train: {augmentation: {noise_folder: ...}}`. Without folders, rooms and noises have the
distributions of the session effects (`corpora.acoustics`); a run draws them once, and each crop
gets one of them.
"""

from pathlib import Path

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.functional import add_noise, fftconvolve

from studylib.corpora.acoustics import draw_noise, draw_room, to_int16
from studylib.corpora.audio import audio_files, decode
from studylib.corpora.store import SAMPLE_RATE
from studylib.errors import StudyError
from studylib.files.paths import project_root
from studylib.training.settings import LONGEST_AUGMENTED, AugmentationSettings

DRAWN_ROOMS = 1_000
DRAWN_NOISES = 100
LONGEST_CROP = round(LONGEST_AUGMENTED * SAMPLE_RATE)  # shorter noises are repeated
LONGEST_ROOM = SAMPLE_RATE


class Augmentation:
    """Augments batches of crops of at most 10 s.

    Parameters
    ----------
    settings : AugmentationSettings
    device : torch.device
        Of the batches; rooms and noises are kept there (two bytes a sample of noise).
    seed : int
        The run's; draws the rooms and noises.

    Raises
    ------
    StudyError
        If a folder has no recordings, or one of them cannot be read.
    """

    def __init__(self, settings: AugmentationSettings, device: torch.device, seed: int) -> None:
        self.settings = settings
        rng = np.random.default_rng(seed)
        if settings.room_chance:
            if settings.room_folder is None:
                rooms = [draw_room(rng) for _ in range(DRAWN_ROOMS)]
            else:
                rooms = [_from_peak(room) for room in _recordings(settings.room_folder)]
            rooms = [torch.from_numpy(room).float() for room in rooms]
            self._rooms = pad_sequence(rooms, batch_first=True).to(device)
        if settings.noise_chance:
            if settings.noise_folder is None:
                noises = [draw_noise(LONGEST_CROP, rng) for _ in range(DRAWN_NOISES)]
                noises = [to_int16(noise / np.abs(noise).max()) for noise in noises]
            else:
                noises = _recordings(settings.noise_folder)
            noises = [np.resize(noise, max(len(noise), LONGEST_CROP)) for noise in noises]
            self._noises = torch.from_numpy(np.concatenate(noises)).to(device)
            self._lengths = torch.tensor([len(noise) for noise in noises], device=device)
            self._ends = torch.cumsum(self._lengths, 0)

    @torch.no_grad()
    def __call__(
        self, waveforms: Tensor, generator: Generator, places: Tensor | slice, total: int
    ) -> Tensor:
        """Augment a batch, or a part of it with the same result as in the whole.

        Parameters
        ----------
        waveforms : (b, S) float32
            Full scale 1.
        generator : torch.Generator
            All that is random in the batch comes from it; on the batch's device it is fastest.
        places : (b,) int64, or slice
            Places of these crops in the batch.
        total : int
            B, the crops of the batch.

        Returns
        -------
        (b, S) float32
            Rows whose peaks would exceed full scale are scaled down.
        """
        settings = self.settings

        def uniform() -> Tensor:
            drawn = torch.rand(total, 1, generator=generator, device=generator.device)
            return drawn.to(waveforms.device)[places]

        if settings.room_chance:
            chosen = uniform() < settings.room_chance
            waveforms = torch.where(chosen, self._in_rooms(waveforms, uniform()), waveforms)
        if settings.noise_chance:
            snr = settings.snr[0] + (settings.snr[1] - settings.snr[0]) * uniform()
            noise = self._noise(waveforms.shape[1], uniform(), uniform()).to(waveforms.dtype)
            noisy = add_noise(waveforms, noise, snr[:, 0])
            # A crop of noise that is silent has no signal-to-noise ratio: the sum is NaN.
            chosen = (uniform() < settings.noise_chance) & noisy[:, :1].isfinite()
            waveforms = torch.where(chosen, noisy, waveforms)
        return waveforms / waveforms.abs().amax(dim=1, keepdim=True).clamp(min=1.0)

    def _in_rooms(self, waveforms: Tensor, which: Tensor) -> Tensor:
        rooms = self._rooms[(which[:, 0] * len(self._rooms)).long()]
        samples, length = waveforms.shape[1], rooms.shape[1]
        # Zeros up to a length of the result, S + R - 1, for which the Fourier transform is fast.
        fast = next_fast_len(samples + length, real=True)
        rooms = torch.nn.functional.pad(rooms, (0, fast - samples + 1 - length))
        return fftconvolve(waveforms, rooms)[:, :samples]

    def _noise(self, samples: int, which: Tensor, position: Tensor) -> Tensor:
        """A crop of a noise for each row, (B, samples) int16; the draws are (B, 1), 0 to 1."""
        noises = (which[:, 0] * len(self._lengths)).long()
        first = self._ends[noises] - self._lengths[noises]
        first += (position[:, 0] * (self._lengths[noises] - samples + 1)).long()
        return self._noises.unfold(0, samples, 1)[first]


def _from_peak(response: np.ndarray) -> np.ndarray:
    """A recorded impulse response from the direct sound on, with energy 1."""
    response = response[np.abs(response.astype(int)).argmax() :][:LONGEST_ROOM].astype(float)
    return response / np.sqrt(np.sum(response**2))


def _recordings(folder: Path) -> list[np.ndarray]:
    recordings = [decode(Path(path)) for path in sorted(audio_files(project_root() / folder))]
    if not recordings:
        raise StudyError(f"{folder} has no recordings to augment with.")
    return recordings
