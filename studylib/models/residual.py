"""The squeeze-excitation residual blocks that Thin and Fast ResNet-34 share."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studylib.models.squeeze_excitation import SqueezeExcitation


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, a squeeze-excitation gate and the shortcut around them.

    As in paper B's authors' code, the first convolution is followed by ReLU and then by batch
    normalisation, and the gate (which the paper does not name) stands before the sum.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SqueezeExcitation(channels, bottleneck=channels // 8)
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


def stage(in_channels: int, channels: int, *, blocks: int, stride: int) -> nn.Sequential:
    """A row of residual blocks, the first of them with the stride."""
    first = ResidualBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(ResidualBlock(channels, channels, 1) for _ in range(blocks - 1)))


def initialise(trunk: nn.Module) -> None:
    """Kaiming normal initialisation, fan-out, of every convolution (He et al. 2015)."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
