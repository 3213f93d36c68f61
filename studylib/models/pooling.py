"""From frames to one vector: (B, C, T) -> (B, C) or (B, 2 C)."""

import torch
from torch import Tensor, nn

SMALLEST_VARIANCE = 1e-5  # below it the deviation is constant: its gradient is 0 and not NaN


class TemporalAverage(nn.Module):
    """Mean over time (TAP): (B, C, T) -> (B, C)."""

    expansion = 1

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, frames: Tensor) -> Tensor:
        return not_halved(frames).mean(2)


class MeanAndDeviation(nn.Module):
    """Mean and standard deviation over time (Snyder et al. 2018): (B, C, T) -> (B, 2 C)."""

    expansion = 2

    def __init__(self, channels: int):
        super().__init__()

    def forward(self, frames: Tensor) -> Tensor:
        frames = not_halved(frames)
        mean = frames.mean(2)
        variance = (frames - mean.unsqueeze(2)).square().mean(2)
        return torch.cat([mean, safe_sqrt(variance)], dim=1)


class Attention(nn.Module):
    """Weights of the frames: softmax over time of a . tanh(W x + b) (Cai et al. 2018)."""

    def __init__(self, channels: int):
        super().__init__()
        self.linear = nn.Linear(channels, channels)
        self.context = nn.Parameter(torch.empty(channels, 1))
        nn.init.xavier_normal_(self.context)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, C, T) -> (B, 1, T), each item's weights summing to 1."""
        scores = torch.tanh(self.linear(frames.transpose(1, 2))) @ self.context  # (B, T, 1)
        return not_halved(scores).softmax(dim=1).transpose(1, 2)


class SelfAttentive(nn.Module):
    """Weighted mean over time (SAP; Cai et al. 2018): (B, C, T) -> (B, C)."""

    expansion = 1

    def __init__(self, channels: int):
        super().__init__()
        self.attention = Attention(channels)

    def forward(self, frames: Tensor) -> Tensor:
        return (self.attention(frames) * not_halved(frames)).sum(2)


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation (ASP; Okabe et al. 2018): (B, C, T) -> (B, 2 C)."""

    expansion = 2

    def __init__(self, channels: int):
        super().__init__()
        self.attention = Attention(channels)

    def forward(self, frames: Tensor) -> Tensor:
        return weighted_statistics(not_halved(frames), self.attention(frames))


# Each pooling's `expansion` times its channels is the length of its output.
POOLINGS: dict[str, type[nn.Module]] = {
    "tap": TemporalAverage,
    "statistics": MeanAndDeviation,
    "sap": SelfAttentive,
    "asp": AttentiveStatistics,
}


def weighted_statistics(frames: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean and deviation over time: (B, C, T), (B, C or 1, T) -> (B, 2 C)."""
    mean = (weights * frames).sum(2)
    variance = (weights * (frames - mean.unsqueeze(2)).square()).sum(2)
    return torch.cat([mean, safe_sqrt(variance)], dim=1)


def safe_sqrt(variance: Tensor) -> Tensor:
    return variance.clamp(min=SMALLEST_VARIANCE).sqrt()


def not_halved(x: Tensor) -> Tensor:
    """In float32 what autocast has made bfloat16 or float16: sums over time need the digits."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
