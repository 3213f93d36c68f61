"""ResNet-34 with squeeze-excitation: what Thin, Fast and Half ResNet-34 share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studylib.models.normalisation import make_normalisation
from studylib.models.pooling import POOLINGS
from studylib.models.squeeze_excitation import SqueezeExcitation


class ResNet34(nn.Module):
    """A 7 x 7 convolution, four stages of residual blocks, the mean over frequency, a pooling.

    Subclasses set `max_pool` (after the first convolution) and `last_stride` (of the last stage).
    Every convolution is initialised Kaiming normal, fan-out (He et al. 2015).
    """

    max_pool: bool
    last_stride: int

    def __init__(
        self, embedding_dim: int, n_features: int, width: int, pooling: str, normalise: str
    ):
        super().__init__()
        self.normalise = make_normalisation(normalise, n_features)
        self.conv1 = nn.Conv2d(1, width, 7, stride=(2, 1), padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1, self.layer2, self.layer3, self.layer4 = four_stages(width, self.last_stride)
        self.pooling = POOLINGS[pooling](8 * width)
        self.fc = nn.Linear(8 * width * self.pooling.expansion, embedding_dim)
        initialise_convolutions(self)

    def forward(self, features: Tensor) -> Tensor:
        """(B, n_features, T) -> (B, embedding_dim)."""
        x = self.normalise(features).unsqueeze(1)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        if self.max_pool:
            x = F.max_pool2d(x, 3, stride=(2, 1), padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.pooling(x.mean(2)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, a squeeze-excitation gate and the shortcut around them.

    As in paper B's authors' code, the first convolution is followed by ReLU and then by batch
    normalisation, and the gate (which the paper does not name) is applied before the sum.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SqueezeExcitation(channels, bottleneck=max(1, channels // 8))
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(F.relu(self.conv1(x), inplace=True))
        y = self.bn2(self.conv2(y))
        gated_sum = torch.addcmul(self.shortcut(x), y, self.se(y))  # in one pass
        return F.relu(gated_sum, inplace=True)


def four_stages(width: int, last_stride: int) -> list[nn.Sequential]:
    """Stages of 3, 4, 6 and 3 residual blocks; a stage's first block has the stage's stride."""
    stages, n_in = [], width
    for factor, blocks, stride in ((1, 3, 1), (2, 4, 2), (4, 6, 2), (8, 3, last_stride)):
        channels = factor * width
        others = (ResidualBlock(channels, channels, 1) for _ in range(blocks - 1))
        stages.append(nn.Sequential(ResidualBlock(n_in, channels, stride), *others))
        n_in = channels
    return stages


def initialise_convolutions(trunk: nn.Module) -> None:
    """Kaiming normal, fan-out (He et al. 2015)."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
