"""The compact TDNN and, beside it, the long-term spectrum that its input layer takes away."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from studylib.models.compact_tdnn import CompactTdnn
from studylib.models.features import N_MELS
from studylib.models.pooling import MeanAndDeviation

SPECTRUM = 2 * N_MELS  # mean and deviation over time of each band
SHARE = 0.4  # weight of the spectrum's cosine, of 1 for the network's (ours; see LOG.md)


class CompactTdnnSpectrum(CompactTdnn):
    """Two vectors in one: the network's embedding, and mean and deviation of the log-mel bands.

        x      = [ F.normalize(network), sqrt(SHARE) * F.normalize(spectrum) ]
        cos(x) = (cosine of the networks + SHARE * cosine of the spectra) / (1 + SHARE)

    Source: ours. The network subtracts the mean over time of each band, and with it the microphone
    and the room, but what a voice has in all its sounds, too.

    Parameters
    ----------
    embedding_dim : int
        Length of both together; the last 80 numbers are the spectrum's.
    channels, normalise, pitch
        See `CompactTdnn`.
    """

    title = "Compact TDNN and spectrum"

    def __init__(
        self,
        embedding_dim: int = 512,
        *,
        channels: int = 192,
        normalise: str = "mean",
        pitch: bool = False,
    ):
        super().__init__(embedding_dim, channels=channels, normalise=normalise, pitch=pitch)
        self.spectrum = MeanAndDeviation(N_MELS)
        self.bn_spectrum = nn.BatchNorm1d(SPECTRUM)
        self.fc = nn.Linear(4 * channels + SPECTRUM, embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(B, 40, T) log-mel, or (B, 88, T) with pitch -> (B, embedding_dim)."""
        log_mel, pitch = features[:, :N_MELS], features[:, N_MELS:]
        x = torch.cat([self.normalise(log_mel), pitch], dim=1).unsqueeze(2)
        x = self.layers(x.contiguous(memory_format=torch.channels_last))
        pooled = [self.bn_pooled(self.pooling(x.squeeze(2)))]
        pooled.append(self.bn_spectrum(self.spectrum(log_mel)))
        both = self.bn_embedding(self.fc(torch.cat(pooled, dim=1)))
        network, spectrum = both[:, :-SPECTRUM], both[:, -SPECTRUM:]
        return torch.cat([F.normalize(network), SHARE**0.5 * F.normalize(spectrum)], dim=1)
