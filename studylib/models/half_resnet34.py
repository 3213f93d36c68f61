"""Half ResNet-34, the best-known trunk that paper B's authors released."""

from torch import Tensor, nn
from torch.nn import functional as F

from studylib.models.normalisation import make_normalisation
from studylib.models.pooling import not_halved, weighted_statistics
from studylib.models.residual import four_stages, initialise_convolutions


class HalfResNet34(nn.Module):
    """ResNet-34 with half of the channels, attentive statistics of each channel and frequency.

    Source: Kwon et al. 2021; the authors' code (ResNetSE34V2) for the order inside a block, the
    pre-emphasis of 0.97 and 64 mels. A crop of 2 s and 240 samples, (64, 202) log-mel, becomes
    (256, 8, 26); its 8 rows of frequency are folded into 2,048 channels.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding.
    width : int
        Channels of the first stage; the others have 2, 4 and 8 times as many.
    normalise : str
        "mean_and_deviation" (over time, as in the authors' code), or "mean".
    mels : int
        Number of mel filters.
    window : str
        "hamming", or "hann".
    log : bool
        Whether the mel spectrum is taken in logarithm.
    """

    title = "Half ResNet-34"
    features = "log_mel"

    def __init__(
        self,
        embedding_dim: int = 512,
        *,
        width: int = 32,
        normalise: str = "mean_and_deviation",
        mels: int = 64,
        window: str = "hamming",
        log: bool = True,
    ):
        super().__init__()
        self.feature_options = {"window": window, "mels": mels, "log": log, "emphasis": 0.97}
        self.normalise = make_normalisation(normalise, mels)
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1, self.layer2, self.layer3, self.layer4 = four_stages(width, last_stride=2)
        channels = 8 * width * -(-mels // 8)  # each stage of stride 2 rounds up
        self.pooling = ChannelAttention(channels)
        self.fc = nn.Linear(2 * channels, embedding_dim)
        initialise_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, mels, T) log-mel -> (B, embedding_dim)."""
        x = self.normalise(features).unsqueeze(1)
        x = self.bn1(F.relu(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.pooling(x.flatten(1, 2)))


class ChannelAttention(nn.Module):
    """Mean and deviation over time, weighted by frame and channel: (B, C, T) -> (B, 2 C)."""

    def __init__(self, channels: int):
        super().__init__()
        self.attention = nn.Sequential(
            nn.Conv1d(channels, 128, 1), nn.ReLU(), nn.BatchNorm1d(128), nn.Conv1d(128, channels, 1)
        )

    def forward(self, frames: Tensor) -> Tensor:
        weights = not_halved(self.attention(frames)).softmax(dim=2)
        return weighted_statistics(not_halved(frames), weights)
