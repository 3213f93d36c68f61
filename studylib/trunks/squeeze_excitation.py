"""Squeeze-excitation (Hu et al. 2018), for images and for sequences."""

from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate in (0, 1) computed from the means of all channels.

    Parameters
    ----------
    channels : int
        Channels of the input (B, channels, ...), whatever the number of its other axes.
    bottleneck : int
        Units between the means and the gates.
    """

    def __init__(self, channels: int, bottleneck: int):
        super().__init__()
        self.down = nn.Linear(channels, bottleneck)
        self.up = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        rest = tuple(range(2, x.ndim))
        gate = self.up(F.relu(self.down(x.mean(rest)))).sigmoid()
        return x * gate[(...,) + (None,) * len(rest)]
