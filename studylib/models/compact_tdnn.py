"""Compact TDNN, a trunk small enough to train on a processor alone."""

import torch
from torch import Tensor, nn

from studylib.models.features import N_MELS, LogMelAndPitch
from studylib.models.normalisation import make_normalisation
from studylib.models.pooling import MeanAndDeviation


class CompactTdnn(nn.Module):
    """Three time-delay layers that shorten time by four, then mean and deviation over time.

    Ours, in no paper: an x-vector (Snyder et al. 2018) reduced until a 2-s crop costs a few
    million multiply-adds. Two more layers of context cost twice the time and, on synthetic as on
    real speech, did not lower the error rate at any budget tried (see LOG.md). The layers are
    written as 1 x k image convolutions, whose channels-last kernels train faster on a processor
    than one-dimensional ones.

    Batch normalisation is applied before and after the last layer, as in ECAPA-TDNN (Desplanques et
    al. 2020): without it a few hundred steps leave the classification losses and triplet at twice
    the error and more (see LOG.md).

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding.
    channels : int
        Channels of the first two layers; the third has twice as many. 192 make 0.62 M parameters
        with 512 dimensions, 0.42 M with 256.
    normalise : str
        "mean" (over time, subtracted), or "mean_and_deviation".
    pitch : bool
        Read `features.Pitch` as well, which is not normalised.
    """

    title = "Compact TDNN"
    features = "log_mel"

    def __init__(
        self,
        embedding_dim: int = 512,
        *,
        channels: int = 192,
        normalise: str = "mean",
        pitch: bool = False,
    ):
        super().__init__()
        self.features = "log_mel_and_pitch" if pitch else "log_mel"
        n_features = LogMelAndPitch.n_features if pitch else N_MELS
        self.normalise = make_normalisation(normalise, N_MELS)
        self.layers = nn.Sequential(
            *time_delay(n_features, channels, 5, stride=2),
            *time_delay(channels, channels, 3, stride=2),
            *time_delay(channels, 2 * channels, 1),
        )
        self.pooling = MeanAndDeviation(2 * channels)
        self.bn_pooled = nn.BatchNorm1d(4 * channels)
        self.fc = nn.Linear(4 * channels, embedding_dim)
        self.bn_embedding = nn.BatchNorm1d(embedding_dim)
        self.layers.to(memory_format=torch.channels_last)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 40, T) log-mel, or (B, 88, T) with pitch -> (B, embedding_dim)."""
        log_mel, pitch = features[:, :N_MELS], features[:, N_MELS:]
        x = torch.cat([self.normalise(log_mel), pitch], dim=1).unsqueeze(2)
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        pooled = self.bn_pooled(self.pooling(x.squeeze(2)))
        return self.bn_embedding(self.fc(pooled))


def time_delay(n_in: int, n_out: int, width: int, stride: int = 1) -> list[nn.Module]:
    """A convolution over time, batch normalisation and ReLU."""
    padding = (0, width // 2)
    convolution = nn.Conv2d(n_in, n_out, (1, width), (1, stride), padding, bias=False)
    return [convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
