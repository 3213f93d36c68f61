"""Squeeze-excitation (Hu et al. 2018), for images and for sequences."""

from torch import Tensor, nn
from torch.nn import functional as F


class SqueezeExcitation(nn.Module):
    """A gate in (0, 1) for each channel, computed from the means of all channels.

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
        """The gates (B, channels, 1, ...) of an input (B, channels, ...), to multiply it by."""
        rest = tuple(range(2, x.ndim))
        means = x.sum(rest) / x[0, 0].numel()  # a mean's gradient would fill a tensor of x's size
        return self.up(F.relu(self.down(means))).sigmoid()[(...,) + (None,) * len(rest)]
