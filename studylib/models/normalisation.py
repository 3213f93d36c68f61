"""The input layer of trunks: normalisation of each feature over the time of one input."""

from torch import Tensor, nn


class SubtractMean(nn.Module):
    """Each feature minus its mean over time: (B, F, T) -> (B, F, T)."""

    def forward(self, features: Tensor) -> Tensor:
        return features - features.mean(2, keepdim=True)


NORMALISATIONS = ("mean", "mean_and_deviation")


def make_normalisation(name: str, n_features: int) -> nn.Module:
    """Subtract the mean over time ("mean"), or also divide by the deviation over time.

    Kaldi's x-vector and ECAPA-TDNN subtract the mean alone; paper B's code normalises both
    ("mean_and_deviation", an instance normalisation without learned numbers). On synthetic
    as on recorded speech the mean alone gives the lower error rate (see LOG.md): the
    deviation of a mel band over time is part of what distinguishes speakers.
    """
    return SubtractMean() if name == "mean" else nn.InstanceNorm1d(n_features)
