"""Contrastive loss: pairs of one speaker together, pairs of two speakers apart by a margin."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import cosine_matrix, flatten, loss_forward, number


class Contrastive(nn.Module):
    """Squared distance of pairs of one speaker; squared shortfall from the margin for two.

        d_ij = 1 - cos(x_i, x_j)
        loss = mean over the pairs i < j of  1/2 d_ij^2                    of the same speaker
                                        or   1/2 max(0, margin - d_ij)^2   of different speakers

    Source: Hadsell, Chopra and LeCun 2006, equation 4, on the cosine distance and over all pairs of
    the batch, as in Coria et al. 2020, whose code takes margin = 0.4.

    Departures: none. Pairs of different speakers far outnumber the others, and the mean over all
    pairs weighs each pair equally.

    Legend: x_i the S = N * M embeddings of the batch, N speakers of M >= 2 utterances. `margin`
    (in cosine distance, 0 to 2) is a plain number, read at each forward.
    """

    title = "Contrastive"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(self, embedding_dim: int, n_speakers: int, *, margin: float) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.margin = number("contrastive: margin", margin, above=0, most=2)

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        d = 1 - cosine_matrix(x, x)  # (S, S)
        same = y[:, None] == y
        of_pairs = torch.where(same, d.square(), F.relu(self.margin - d).square()) / 2
        n_pairs = len(x) * (len(x) - 1) / 2
        return of_pairs.triu(diagonal=1).sum() / n_pairs
