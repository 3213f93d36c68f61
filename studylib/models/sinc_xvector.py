"""SincTDNN, the end-to-end trunk of paper A: SincNet filters under an x-vector."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from studylib.models.features import SAMPLE_RATE
from studylib.models.pooling import MeanAndDeviation

LOWEST = 50.0  # Hz: added to every lower cut-off
NARROWEST = 50.0  # Hz: added to every bandwidth


class SincXVector(nn.Module):
    """From the waveform to the embedding.

    Source: Coria et al. 2020, section 3; SincNet is Ravanelli and Bengio 2018, the time-delay
    layers are Snyder et al. 2018. As in the authors' code, the normalisations are learned instance
    normalisations and the time-delay layers are weight-normalised. One frame every 8.44 ms; 3 s
    become 337 frames after the time-delay layers.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding, taken before the activation.
    """

    title = "SincTDNN"
    features = "waveform"

    def __init__(self, embedding_dim: int = 512):
        super().__init__()
        self.normalise = nn.InstanceNorm1d(1, affine=True)
        self.sinc = SincConv(80, width=251, stride=5)
        self.norm1 = nn.InstanceNorm1d(80, affine=True)
        self.conv2 = nn.Conv1d(80, 60, 5)
        self.norm2 = nn.InstanceNorm1d(60, affine=True)
        self.conv3 = nn.Conv1d(60, 60, 5)
        self.norm3 = nn.InstanceNorm1d(60, affine=True)
        self.layers = nn.Sequential(
            *time_delay(60, 512, 5),
            *time_delay(512, 512, 3, dilation=2),
            *time_delay(512, 512, 3, dilation=3),
            *time_delay(512, 512, 1),
            *time_delay(512, 1500, 1),
        )
        self.pooling = MeanAndDeviation(1500)
        self.fc = nn.Linear(3000, embedding_dim)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, 1, S) samples -> (B, embedding_dim)."""
        x = self.sinc(self.normalise(waveform)).abs()
        x = F.leaky_relu(self.norm1(F.max_pool1d(x, 3)), 0.2)
        x = F.leaky_relu(self.norm2(F.max_pool1d(self.conv2(x), 3)), 0.2)
        x = F.leaky_relu(self.norm3(F.max_pool1d(self.conv3(x), 3)), 0.2)
        return self.fc(self.pooling(self.layers(x)))


class SincConv(nn.Module):
    """Convolution with learned band-pass filters (Ravanelli and Bengio 2018, eq. 4).

    h[n] = w[n] (2 f2 sinc(2 f2 n) - 2 f1 sinc(2 f1 n)) / (2 (f2 - f1)),

    with sinc(x) = sin(pi x) / (pi x), a Hamming window w, and cut-offs in cycles a sample. What is
    learned, in Hz: `low`, with f1 = 50 + |low|, and `band`, with f2 = f1 + 50 + |band|, at most
    8000. They start evenly spaced on the mel scale, from 30 Hz.

    Parameters
    ----------
    channels : int
        Number of filters.
    width : int
        Odd number of samples of each filter.
    stride : int
        Step in samples.
    """

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        highest = SAMPLE_RATE / 2 - (LOWEST + NARROWEST)
        mel = torch.linspace(to_mel(30), to_mel(highest), channels + 1, dtype=torch.float64)
        corners = 700 * (10 ** (mel / 2595) - 1)
        self.low = nn.Parameter(corners[:-1].float())
        self.band = nn.Parameter(corners.diff().float())
        half = width // 2
        self.register_buffer("time", torch.arange(-half, half + 1.0), persistent=False)
        window = torch.hamming_window(width, periodic=False)
        self.register_buffer("window", window, persistent=False)

    def cut_offs(self) -> tuple[Tensor, Tensor]:
        """Lower and upper cut-off of every filter in Hz, each (channels,)."""
        low = LOWEST + self.low.abs()
        return low, (low + NARROWEST + self.band.abs()).clamp(max=SAMPLE_RATE / 2)

    def filters(self) -> Tensor:
        """Impulse responses, (channels, width), 1 at the centre."""
        low, high = (2 * cut_off.unsqueeze(1) / SAMPLE_RATE for cut_off in self.cut_offs())
        response = high * torch.sinc(high * self.time) - low * torch.sinc(low * self.time)
        return response * self.window / (high - low)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, 1, S) -> (B, channels, 1 + (S - width) // stride)."""
        return F.conv1d(waveform, self.filters().unsqueeze(1), stride=self.stride)


def to_mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def time_delay(n_in: int, n_out: int, width: int, *, dilation: int = 1) -> list[nn.Module]:
    """A weight-normalised convolution over time and ReLU."""
    convolution = nn.Conv1d(n_in, n_out, width, dilation=dilation)
    return [weight_norm(convolution), nn.ReLU(inplace=True)]
