"""Thin ResNet-34, on the magnitude spectrogram."""

from torch import Tensor, nn
from torch.nn import functional as F

from studylib.models.pooling import make_pooling
from studylib.models.residual import initialise, stage


class ThinResNet34(nn.Module):
    """ResNet-34 with a quarter of the channels.

    Source: Cai et al. 2018; Chung et al. 2020, section 3.1 and Table 1; squeeze-excitation and the
    order inside a block follow the latter's code. A 2-s input (257, 199) becomes (128, 9, 25)
    before the mean over frequency.

    Parameters
    ----------
    embedding_dim : int
        Length of the embedding.
    width : int
        Channels of the first stage; the others have 2, 4 and 8 times as many.
    pooling : str
        "sap" (self-attentive mean), or "asp", "tap", "statistics".
    n_features : int
        Bins of the input.
    """

    features = "spectrogram"

    def __init__(
        self,
        embedding_dim: int = 512,
        *,
        width: int = 16,
        pooling: str = "sap",
        n_features: int = 257,
    ):
        super().__init__()
        self.normalise = nn.InstanceNorm1d(n_features)
        self.conv1 = nn.Conv2d(1, width, 7, stride=(2, 1), padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.max_pool = nn.MaxPool2d(3, stride=(2, 1), padding=1)
        self.layer1 = stage(width, width, blocks=3, stride=1)
        self.layer2 = stage(width, 2 * width, blocks=4, stride=2)
        self.layer3 = stage(2 * width, 4 * width, blocks=6, stride=2)
        self.layer4 = stage(4 * width, 8 * width, blocks=3, stride=2)
        self.pooling = make_pooling(pooling, 8 * width)
        self.fc = nn.Linear(8 * width * self.pooling.expansion, embedding_dim)
        initialise(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 257, T) magnitude spectrogram -> (B, embedding_dim)."""
        x = self.normalise(features).unsqueeze(1)
        x = self.max_pool(F.relu(self.bn1(self.conv1(x)), inplace=True))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.pooling(x.mean(2)))
