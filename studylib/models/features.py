"""From the waveform to what a trunk reads: log-mel, spectrogram, MFCC or the waveform itself.

All of them take (B, S) float samples in [-1, 1] at 16 kHz and give (B, F, T); they run on the
waveform's device, in float32 also under autocast, and without gradient. Frames follow paper B
(Chung et al. 2020): a 25-ms Hamming window every 10 ms, a 512-point FFT, no pre-emphasis, no voice
activity detection. The normalisation over time is the trunks' input layer, not a feature.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studylib.errors import StudyError

SAMPLE_RATE = 16_000  # Hz
WINDOW = 400  # samples: 25 ms
STEP = 160  # samples: 10 ms
FFT_SIZE = 512
N_BINS = FFT_SIZE // 2 + 1
CHUNK = 8  # waveforms
SHORTEST = SAMPLE_RATE // 2  # samples: no trunk is asked to read less than half a second


class LogMel(nn.Module):
    """Natural logarithm of the mel power spectrum, frames centred on multiples of 10 ms.

    log(1e-6 + M |X|^2), where X is the 512-point DFT of a frame and M holds triangular filters
    spaced evenly on the HTK mel scale from 0 to 8 kHz. S samples give 1 + S // 160 frames; the
    ends are mirrored.

    Parameters
    ----------
    n_mels : int
        Number of filters; paper B uses 40.
    """

    def __init__(self, n_mels: int = 40):
        super().__init__()
        self.n_features = n_mels
        self.register_buffer("window", padded_window(), persistent=False)
        twice = mel_filters(n_mels).repeat_interleave(2, dim=0)
        self.register_buffer("twice_filters", twice, persistent=False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, n_mels, 1 + S // 160)."""
        with torch.autocast(waveform.device.type, enabled=False):
            chunks = in_chunks(centred(checked(waveform)))
            mel = torch.cat([self.mel_power(chunk) for chunk in chunks])
            return mel.add_(1e-6).log_().transpose(1, 2)

    def mel_power(self, waveform: Tensor) -> Tensor:
        # One product with the filters given twice adds up re^2 and im^2 as well.
        squares = spectrum_of(waveform, self.window).square_().flatten(2)
        return squares @ self.twice_filters


class Spectrogram(nn.Module):
    """Magnitude of the short-time Fourier transform, 257 bins, no logarithm, no mirrored ends.

    S samples give 1 + (S - 512) // 160 frames, so that paper B's Thin ResNet-34 ends in 25 frames
    for a 2-s input.
    """

    n_features = N_BINS

    def __init__(self):
        super().__init__()
        self.register_buffer("window", padded_window(), persistent=False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, 257, 1 + (S - 512) // 160)."""
        with torch.autocast(waveform.device.type, enabled=False):
            chunks = in_chunks(checked(waveform))
            return torch.cat([self.magnitude(chunk) for chunk in chunks]).transpose(1, 2)

    def magnitude(self, waveform: Tensor) -> Tensor:
        real, imaginary = spectrum_of(waveform, self.window).square_().unbind(3)
        return (real + imaginary).sqrt_()


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients: an orthonormal DCT-II of the log-mel spectrum.

    Parameters
    ----------
    n_coefficients : int
        Coefficients kept, the zeroth (energy) included; Kaldi's x-vector recipe uses 30.
    n_mels : int
        Mel filters under the transform.
    """

    def __init__(self, n_coefficients: int = 30, n_mels: int = 40):
        super().__init__()
        self.n_features = n_coefficients
        self.log_mel = LogMel(n_mels)
        self.register_buffer("dct", dct_matrix(n_coefficients, n_mels), persistent=False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, n_coefficients, 1 + S // 160)."""
        with torch.autocast(waveform.device.type, enabled=False):
            return self.dct @ self.log_mel(waveform)


class Waveform(nn.Module):
    """The samples themselves, as one channel: (B, S) -> (B, 1, S)."""

    n_features = 1

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        return checked(waveform).unsqueeze(1)


FEATURES: dict[str, type[nn.Module]] = {
    "log_mel": LogMel,
    "spectrogram": Spectrogram,
    "mfcc": Mfcc,
    "waveform": Waveform,
}


def checked(waveform: Tensor) -> Tensor:
    """The (B, S) waveform in float32; a StudyError where it is shorter than half a second."""
    if waveform.ndim != 2:
        raise StudyError(
            f"features: waveforms have shape (batch, samples), got {tuple(waveform.shape)}"
        )
    if waveform.shape[1] < SHORTEST:
        raise StudyError(
            f"features: an input of {waveform.shape[1]} samples is too short; "
            f"at least {SHORTEST} (0.5 s at 16 kHz) are needed"
        )
    return waveform.detach().float()


def centred(waveform: Tensor) -> Tensor:
    """Mirror both ends by half an FFT, so that frame t is centred on sample 160 t."""
    return F.pad(waveform, (FFT_SIZE // 2, FFT_SIZE // 2), mode="reflect")


def spectrum_of(waveform: Tensor, window: Tensor) -> Tensor:
    """Real and imaginary parts of the DFT of every frame: (B, S) -> (B, T, 257, 2)."""
    frames = waveform.unfold(1, FFT_SIZE, STEP) * window
    return torch.view_as_real(torch.fft.rfft(frames))


def in_chunks(waveform: Tensor) -> tuple[Tensor, ...]:
    """The batch cut up so that a chunk's spectra stay in a processor's cache: twice as fast."""
    return waveform.split(CHUNK if waveform.device.type == "cpu" else len(waveform))


def padded_window() -> Tensor:
    """A periodic Hamming window of 400 samples in the middle of 512."""
    margin = (FFT_SIZE - WINDOW) // 2
    return F.pad(torch.hamming_window(WINDOW), (margin, margin))


def mel_filters(n_mels: int) -> Tensor:
    """Triangular filters of height 1, evenly spaced on the HTK mel scale: (257, n_mels)."""
    highest = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = torch.linspace(0, highest, n_mels + 2, dtype=torch.float64)
    corners = 700 * (10 ** (corners / 2595) - 1)  # Hz
    bins = torch.linspace(0, SAMPLE_RATE / 2, N_BINS, dtype=torch.float64).unsqueeze(1)
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def dct_matrix(n_coefficients: int, n_inputs: int) -> Tensor:
    """Orthonormal DCT-II: (n_coefficients, n_inputs)."""
    order = torch.arange(n_coefficients, dtype=torch.float64).unsqueeze(1)
    place = torch.arange(n_inputs, dtype=torch.float64)
    matrix = torch.cos(math.pi / n_inputs * (place + 0.5) * order) * math.sqrt(2 / n_inputs)
    matrix[0] /= math.sqrt(2)
    return matrix.float()
