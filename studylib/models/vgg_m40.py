"""VGG-M-40, the largest trunk of paper B."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studylib.models.features import N_MELS
from studylib.models.normalisation import make_normalisation
from studylib.models.pooling import POOLINGS

SHORTEST = 63  # frames: the fewest from which three poolings leave one


class VggM40(nn.Module):
    """VGG-M (Chatfield et al. 2014) on 40 mel bands.

    Source: Chung et al. 2020, section 3.1 and Table 1; every convolution is followed by batch
    normalisation and ReLU. Paper B's crop of 2 s and 240 samples (40, 202) becomes
    (512, 1, 5) before pooling; 2 s are 201 frames. Inputs of fewer than 63 frames (0.62 s) are
    repeated up to that length.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding.
    pooling : str
        "tap" (temporal average, as in the paper), or "sap", "asp", "statistics".
    normalise : str
        "mean_and_deviation" (over time, as in the paper's code), or "mean".
    window : str
        "hamming" (as in the paper), or "hann" (as in its authors' code for this trunk).
    log : bool
        Whether the mel spectrum is taken in logarithm.
    """

    title = "VGG-M-40"
    features = "log_mel"

    def __init__(
        self,
        embedding_dim: int = 512,
        *,
        pooling: str = "tap",
        normalise: str = "mean_and_deviation",
        window: str = "hamming",
        log: bool = True,
    ):
        super().__init__()
        self.feature_options = {"window": window, "log": log}
        self.normalise = make_normalisation(normalise, N_MELS)
        self.convolutions = nn.Sequential(
            *convolution(1, 96, (5, 7), stride=(1, 2), padding=2),
            nn.MaxPool2d((1, 3), (1, 2)),
            *convolution(96, 256, 5, stride=2, padding=1),
            nn.MaxPool2d(3, 2),
            *convolution(256, 384, 3, padding=1),
            *convolution(384, 256, 3, padding=1),
            *convolution(256, 256, 3, padding=1),
            nn.MaxPool2d(3, 2),
            *convolution(256, 512, (4, 1)),
        )
        self.pooling = POOLINGS[pooling](512)
        self.fc = nn.Linear(512 * self.pooling.expansion, embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 40, T) log-mel -> (B, embedding_dim)."""
        x = self.normalise(features)
        if x.shape[2] < SHORTEST:
            x = F.pad(x, (0, SHORTEST - x.shape[2]), mode="circular")
        x = self.convolutions(x.unsqueeze(1))
        return self.fc(self.pooling(torch.flatten(x, 1, 2)))


def convolution(n_in: int, n_out: int, kernel, *, stride=1, padding: int = 0) -> list[nn.Module]:
    """A convolution over frequency and time, batch normalisation and ReLU."""
    layer = nn.Conv2d(n_in, n_out, kernel, stride, padding)
    return [layer, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)]
