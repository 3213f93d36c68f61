"""Center loss: classification, plus the distance of each embedding to its speaker's centre."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import flatten, loss_forward, normalise, number


class Center(nn.Module):
    """Cross-entropy of a linear layer, plus the squared cosine distance to the speaker's centre.

        logit_j = weight_j . x + bias_j
        loss    = mean over the N * M utterances x of
                      -log( exp(logit_y) / sum_j exp(logit_j) )
                      + center_weight / 2 * (1 - cos(x, center_y))^2

    Source: Wen et al. 2016 (center loss), in the cosine form of Coria et al. 2020, whose code takes
    center_weight (the papers' lambda) = 1.

    Departures from Wen et al.: cosine instead of Euclidean distance, and the centres are learned
    by the same optimiser as the rest instead of by a rule of their own, both as in Coria et al. The
    linear layer has a bias; that of the code of Coria et al. has none.

    Legend: y the label of x; weight and centers (C, D), bias (C,) of C training speakers; N
    speakers of M utterances; weight and centers Xavier-normal from torch's global generator at
    construction, bias zero. `center_weight` is a plain number, read at each forward.
    """

    title = "Center"
    scoring = "cosine"
    min_utterances_per_speaker = 1

    def __init__(self, embedding_dim: int, n_speakers: int, *, center_weight: float) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.center_weight = number("center: center_weight", center_weight, least=0)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))
        self.bias = nn.Parameter(torch.zeros(n_speakers))
        self.centers = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        classification = F.cross_entropy(F.linear(x, self.weight, self.bias), y)
        own_centers = normalise(self.centers[y])  # (N * M, D)
        distances = 1 - (normalise(x) * own_centers).sum(dim=1)  # (N * M,)
        return classification + self.center_weight / 2 * distances.square().mean()
