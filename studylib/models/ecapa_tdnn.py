"""ECAPA-TDNN, a strong time-delay trunk, later than both papers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studylib.errors import StudyError
from studylib.models.features import N_MELS
from studylib.models.normalisation import make_normalisation
from studylib.models.pooling import MeanAndDeviation, not_halved, weighted_statistics
from studylib.models.squeeze_excitation import SqueezeExcitation

GROUPS = 8  # of channels, in a Res2 convolution


class EcapaTdnn(nn.Module):
    """Emphasised channel attention, propagation and aggregation in a time-delay network.

    Source: Desplanques, Thienpondt, Demuynck 2020, Figure 2. Ours: 40 log-mel bands where the
    paper has 80 MFCC, so that it compares with the other trunks.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding (192 in its paper).
    channels : int
        Channels C of the blocks, a multiple of 8; 512 and 1024 in its paper.
    normalise : str
        "mean" (over time, subtracted), or "mean_and_deviation".
    """

    title = "ECAPA-TDNN"
    features = "log_mel"

    def __init__(self, embedding_dim: int = 512, *, channels: int = 512, normalise: str = "mean"):
        super().__init__()
        if channels % GROUPS:
            raise StudyError(f"ecapa_tdnn: channels is a multiple of {GROUPS}, got {channels}")
        self.normalise = make_normalisation(normalise, N_MELS)
        self.layer1 = nn.Sequential(*time_delay(N_MELS, channels, 5))
        self.block2 = SERes2Block(channels, dilation=2)
        self.block3 = SERes2Block(channels, dilation=3)
        self.block4 = SERes2Block(channels, dilation=4)
        self.aggregate = nn.Conv1d(3 * channels, 1536, 1)
        self.pooling = ChannelAttentiveStatistics(1536)
        self.bn5 = nn.BatchNorm1d(3072)
        self.fc = nn.Linear(3072, embedding_dim)
        self.bn6 = nn.BatchNorm1d(embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 40, T) log-mel -> (B, embedding_dim)."""
        x1 = self.layer1(self.normalise(features))
        x2 = self.block2(x1)
        x3 = self.block3(x1 + x2)
        x4 = self.block4(x1 + x2 + x3)
        x = F.relu(self.aggregate(torch.cat([x2, x3, x4], dim=1)))
        return self.bn6(self.fc(self.bn5(self.pooling(x))))


class SERes2Block(nn.Module):
    """Squeeze-excitation around a Res2 convolution between two 1 x 1 layers, with a shortcut."""

    def __init__(self, channels: int, *, dilation: int):
        super().__init__()
        self.first = nn.Sequential(*time_delay(channels, channels, 1))
        self.res2 = Res2(channels, dilation=dilation)
        self.last = nn.Sequential(*time_delay(channels, channels, 1))
        self.se = SqueezeExcitation(channels, bottleneck=128)

    def forward(self, x: Tensor) -> Tensor:
        y = self.last(self.res2(self.first(x)))
        return torch.addcmul(x, y, self.se(y))


class Res2(nn.Module):
    """Eight groups of channels, each convolved after the one before is added (Gao et al. 2019)."""

    def __init__(self, channels: int, *, dilation: int, groups: int = GROUPS):
        super().__init__()
        each = channels // groups
        self.layers = nn.ModuleList(
            nn.Sequential(*time_delay(each, each, 3, dilation=dilation)) for _ in range(groups - 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *groups = x.chunk(len(self.layers) + 1, dim=1)
        done, previous = [first], 0  # the first group is unchanged and added to no other
        for layer, group in zip(self.layers, groups, strict=True):
            previous = layer(group + previous)
            done.append(previous)
        return torch.cat(done, dim=1)


class ChannelAttentiveStatistics(nn.Module):
    """Mean and deviation weighted by frame and channel: (B, C, T) -> (B, 2 C).

    The attention's input is each frame with the plain mean and deviation of the whole input.
    """

    def __init__(self, channels: int, bottleneck: int = 128):
        super().__init__()
        self.plain = MeanAndDeviation(channels)
        self.down = nn.Conv1d(3 * channels, bottleneck, 1)
        self.up = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, frames: Tensor) -> Tensor:
        frames = not_halved(frames)
        statistics = self.plain(frames).unsqueeze(2).expand(-1, -1, frames.shape[2])
        context = torch.tanh(self.down(torch.cat([frames, statistics], dim=1)))
        return weighted_statistics(frames, not_halved(self.up(context)).softmax(dim=2))


def time_delay(n_in: int, n_out: int, width: int, *, dilation: int = 1) -> list[nn.Module]:
    """A convolution over time that keeps its length, ReLU and batch normalisation."""
    convolution = nn.Conv1d(n_in, n_out, width, dilation=dilation, padding="same")
    return [convolution, nn.ReLU(inplace=True), nn.BatchNorm1d(n_out)]
