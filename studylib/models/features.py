"""From the waveform to a trunk's input: log-mel, spectrogram, MFCC or the waveform itself.

All of them take (B, S) float samples in [-1, 1] at 16 kHz and give (B, F, T); they run on the
waveform's device and without gradient, in float32 also under autocast (in float64, if both the
samples and the module are). Frames follow paper B (Chung et al. 2020): a 25-ms Hamming window every
10 ms, a 512-point FFT, no voice activity detection, and pre-emphasis for Half ResNet-34 alone. The
normalisation over time is the trunks' input layer, not a feature.
"""

import math
from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor, nn
from torchaudio import transforms
from torchaudio.functional import create_dct

from studylib.errors import StudyError

SAMPLE_RATE = 16_000  # Hz
WINDOW = 400  # samples: 25 ms
STEP = 160  # samples: 10 ms
FFT_SIZE = 512
N_BINS = FFT_SIZE // 2 + 1
N_MELS = 40  # filters, in paper B
CHUNK = 8  # waveforms
SHORTEST = SAMPLE_RATE // 2  # samples: no trunk reads less than half a second
WINDOWS = {"hamming": torch.hamming_window, "hann": torch.hann_window}


def without_gradient(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Wrap a feature's forward: the waveform is checked, gradient and autocast are off.

    Raises
    ------
    StudyError
        If the waveforms are shorter than half a second.
    """

    @wraps(forward)
    def wrapped(self: nn.Module, waveform: Tensor) -> Tensor:
        if waveform.ndim != 2:
            raise ValueError(f"expected waveforms (batch, samples), got {tuple(waveform.shape)}")
        if waveform.shape[1] < SHORTEST:
            raise StudyError(
                f"features: an input of {waveform.shape[1]} samples is too short; "
                f"at least {SHORTEST} (0.5 s at 16 kHz) are needed"
            )
        with torch.autocast(waveform.device.type, enabled=False):
            return forward(self, waveform.detach())

    return wrapped


class LogMel(nn.Module):
    """Natural logarithm of the mel power spectrum, frames centred on multiples of 10 ms.

    log(1e-6 + M |X|^2), where X is the 512-point DFT of a frame and M holds triangular filters
    spaced evenly on the HTK mel scale from 0 to 8 kHz. S samples give 1 + S // 160 frames; the
    ends are mirrored.

    Parameters
    ----------
    mels : int
        Number of filters.
    window : str
        A key of `WINDOWS`.
    log : bool
        False leaves the logarithm out.
    emphasis : float
        Pre-emphasis c: x[t] - c x[t - 1], where x[-1] is x[1], as in paper B's authors' code.
    """

    def __init__(
        self,
        mels: int = N_MELS,
        window: str = "hamming",
        log: bool = True,
        emphasis: float = 0.0,
    ):
        super().__init__()
        self.log, self.emphasis = log, emphasis
        self.spectrum = transforms.Spectrogram(
            FFT_SIZE, WINDOW, STEP, window_fn=WINDOWS[window], power=None
        )
        # One product with the filters given twice adds up re^2 and im^2 as well.
        twice = mel_filters(mels).repeat_interleave(2, dim=0)
        self.register_buffer("twice_filters", twice, persistent=False)

    @without_gradient
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, mels, 1 + S // 160)."""
        if self.emphasis:
            before = torch.cat([waveform[:, 1:2], waveform[:, :-1]], dim=1)
            waveform = waveform - self.emphasis * before
        mel = torch.cat([self.mel_power(chunk) for chunk in in_chunks(waveform)]).add_(1e-6)
        return (mel.log_() if self.log else mel).transpose(1, 2)

    def mel_power(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, T, mels)."""
        parts = torch.view_as_real(self.spectrum(waveform).transpose(1, 2))  # (B, T, 257, 2)
        return parts.square_().flatten(2) @ self.twice_filters


class Pitch(nn.Module):
    """Generalised autocorrelation at 48 lags, from 1/420 to 1/60 s evenly on a logarithmic scale.

    Ours: with m_k = |X_k|^0.5 less its mean over the bins from 60 Hz to 3 kHz, X the 1,024-point
    DFT of a 40-ms Hann frame, a lag of t samples gets 5 sum_k m_k cos(2 pi k t / 1024) / sum_k
    |m_k|. Voiced speech peaks at the period of the fundamental; neither a channel's gain nor, much,
    its equaliser moves the peak. The factor 5 brings the spread near that of log-mel.
    """

    n_features = 48

    def __init__(self):
        super().__init__()
        self.register_buffer("window", torch.hann_window(640), persistent=False)
        bins = torch.arange(3, 192, dtype=torch.float64)
        lags = SAMPLE_RATE / 420 * 7 ** torch.linspace(0, 1, self.n_features, dtype=torch.float64)
        cosines = torch.cos(2 * torch.pi / 1024 * bins[:, None] * lags).float()
        self.register_buffer("cosines", cosines, persistent=False)

    @without_gradient
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, 48, 1 + S // 320), one frame every 20 ms."""
        return torch.cat([self.correlation(chunk) for chunk in in_chunks(waveform)])

    def correlation(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, 48, 1 + S // 320)."""
        spectrum = torch.stft(waveform, 1024, 2 * STEP, 640, self.window, return_complex=True)
        parts = torch.view_as_real(spectrum[:, 3:192].transpose(1, 2))  # (B, T, 189, 2)
        magnitude = parts.square_().sum(3).add_(1e-9).pow_(0.25)
        magnitude -= magnitude.mean(2, keepdim=True)
        scale = 5 / (magnitude.abs().sum(2, keepdim=True) + 1e-5)  # of silence: 0
        return (scale * (magnitude @ self.cosines)).transpose(1, 2)


class LogMelAndPitch(nn.Module):
    """Log-mel and, below it, `Pitch`, each frame of which stands for two."""

    n_features = N_MELS + Pitch.n_features

    def __init__(self):
        super().__init__()
        self.log_mel, self.pitch = LogMel(), Pitch()

    @without_gradient
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, 88, 1 + S // 160)."""
        log_mel = self.log_mel(waveform)
        pitch = self.pitch(waveform).repeat_interleave(2, dim=2)[:, :, : log_mel.shape[2]]
        return torch.cat([log_mel, pitch], dim=1)


class Spectrogram(nn.Module):
    """Magnitude of the short-time Fourier transform, 257 bins, no logarithm, no mirrored ends.

    S samples give 1 + (S - 512) // 160 frames, so that paper B's Thin ResNet-34 ends in 25 frames
    for its crop of 2 s and 240 samples. `window` is a key of `WINDOWS`.
    """

    def __init__(self, window: str = "hamming"):
        super().__init__()
        self.magnitude = transforms.Spectrogram(
            FFT_SIZE, WINDOW, STEP, window_fn=WINDOWS[window], power=1, center=False
        )

    @without_gradient
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, 257, 1 + (S - 512) // 160)."""
        return torch.cat([self.magnitude(chunk) for chunk in in_chunks(waveform)])


class Mfcc(nn.Module):
    """Mel-frequency cepstral coefficients: an orthonormal DCT-II of the log-mel spectrum.

    Thirty of them, the zeroth (energy) included, from 40 mel filters, as in Kaldi's x-vector recipe
    but for the window.
    """

    n_features = 30

    def __init__(self):
        super().__init__()
        self.log_mel = LogMel()
        dct = create_dct(self.n_features, N_MELS, norm="ortho")
        self.register_buffer("dct", dct.T.contiguous(), persistent=False)

    @without_gradient
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, 30, 1 + S // 160)."""
        return self.dct @ self.log_mel(waveform)


class Waveform(nn.Module):
    """The samples themselves, as one channel: (B, S) -> (B, 1, S)."""

    @without_gradient
    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) samples -> (B, 1, S)."""
        return waveform.unsqueeze(1)


FEATURES: dict[str, type[nn.Module]] = {
    "log_mel": LogMel,
    "log_mel_and_pitch": LogMelAndPitch,
    "spectrogram": Spectrogram,
    "mfcc": Mfcc,
    "waveform": Waveform,
}


def make_features(trunk: nn.Module) -> nn.Module:
    """The features that a trunk takes, with the trunk's own options of them, if it has any."""
    return FEATURES[trunk.features](**getattr(trunk, "feature_options", {}))


def mel_filters(n_mels: int) -> Tensor:
    """Triangular filters of height 1, evenly spaced on the HTK mel scale: (257, n_mels).

    Those of torchaudio (`melscale_fbanks`, norm=None), but computed in float64: in float32 they
    are 3e-6 away, and the log-mel then 6e-6.
    """
    highest = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = torch.linspace(0, highest, n_mels + 2, dtype=torch.float64)
    corners = 700 * (10 ** (corners / 2595) - 1)  # Hz
    bins = torch.linspace(0, SAMPLE_RATE / 2, N_BINS, dtype=torch.float64).unsqueeze(1)
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    return torch.minimum(rising, falling).clamp(min=0).float()


def in_chunks(waveform: Tensor) -> tuple[Tensor, ...]:
    """The batch cut up so that a chunk's spectra stay in a processor's cache: twice as fast.

    Whole while a model is exported: the number of chunks would be fixed in the exported program.
    """
    if torch.compiler.is_exporting() or waveform.device.type != "cpu":
        return (waveform,)
    return waveform.split(CHUNK)
