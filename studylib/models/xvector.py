"""The x-vector network, paper A's baseline."""

from torch import Tensor, nn

from studylib.models.features import Mfcc
from studylib.models.normalisation import make_normalisation
from studylib.models.pooling import MeanAndDeviation


class XVector(nn.Module):
    """Five time-delay layers, mean and standard deviation, one linear layer.

    Source: Snyder et al. 2018, Table 1, as in Kaldi's recipe (30 MFCC; each layer is affine, ReLU,
    batch normalisation); the embedding is segment6, before its activation. Ours: the mean over the
    whole input is subtracted, where Kaldi subtracts a sliding mean.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding.
    normalise : str
        "mean" (over time, subtracted), or "mean_and_deviation".
    """

    title = "x-vector"
    features = "mfcc"

    def __init__(self, embedding_dim: int = 512, *, normalise: str = "mean"):
        super().__init__()
        self.normalise = make_normalisation(normalise, Mfcc.n_features)
        self.layers = nn.Sequential(
            *time_delay(Mfcc.n_features, 512, 5),
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


def time_delay(n_in: int, n_out: int, width: int, *, dilation: int = 1) -> list[nn.Module]:
    """A convolution over time, ReLU and batch normalisation."""
    convolution = nn.Conv1d(n_in, n_out, width, dilation=dilation)
    return [convolution, nn.ReLU(inplace=True), nn.BatchNorm1d(n_out)]
