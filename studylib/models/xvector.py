"""The x-vector network, paper A's baseline."""

from torch import Tensor, nn

from studylib.models.pooling import MeanAndDeviation


class XVector(nn.Module):
    """Five time-delay layers, mean and standard deviation, one linear layer.

    Source: Snyder et al. 2018, Table 1, as in Kaldi's recipe (30 MFCC; each layer is affine, ReLU,
    batch normalisation); the embedding is segment6, before its activation. Ours: mean and variance
    normalisation over the whole input, where Kaldi subtracts a sliding mean.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding.
    n_features : int
        Coefficients of the input.
    """

    features = "mfcc"

    def __init__(self, embedding_dim: int = 512, *, n_features: int = 30):
        super().__init__()
        self.normalise = nn.InstanceNorm1d(n_features)
        self.layers = nn.Sequential(
            *time_delay(n_features, 512, 5),
            *time_delay(512, 512, 3, dilation=2),
            *time_delay(512, 512, 3, dilation=3),
            *time_delay(512, 512, 1),
            *time_delay(512, 1500, 1),
        )
        self.pooling = MeanAndDeviation(1500)
        self.fc = nn.Linear(3000, embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 30, T) MFCC -> (B, embedding_dim); T - 14 frames are pooled."""
        return self.fc(self.pooling(self.layers(self.normalise(features))))


def time_delay(
    in_channels: int, channels: int, width: int, *, dilation: int = 1
) -> list[nn.Module]:
    """A convolution over time, ReLU and batch normalisation."""
    return [
        nn.Conv1d(in_channels, channels, width, dilation=dilation),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(channels),
    ]
