"""SphereFace2: a binary classification for each training speaker, instead of one softmax."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import cosine_matrix, flatten, loss_forward, number


class Sphereface2(nn.Module):
    """Logistic loss of each utterance and each training speaker, as of a verification trial.

        g(z)  = 2 * ((z + 1) / 2)^t - 1
        p     = scale * (g(cos(theta_y)) - margin) + b         for the true speaker y of x
        n_j   = scale * (g(cos(theta_j)) + margin) + b         for every other speaker j
        loss  = mean over the N * M utterances of  1 / scale *
                    ( positive_weight * log(1 + exp(-p))
                      + (1 - positive_weight) * sum_j log(1 + exp(n_j)) )

    Source: Wen et al. 2022 (SphereFace2-C, with additive cosine margin; lambda 0.7, r 40, m 0.4, t
    3 are positive_weight, scale, margin, t here); for speakers Han, Chen and Qian 2023, who take
    scale 32 and margin 0.2. No softmax here: b matters, and is learned.

    Departures: the gradient passes through g, as the equation says; the first authors' later code
    (OpenSphere) replaces it by that of g(z) = z.

    Legend: theta_j the angle between x and row j of weight (C, D); N speakers of M utterances, C
    training speakers. b starts where the gradients of the one positive and the C - 1
    negatives balance if all cosines are 0. `margin`, `scale`, `positive_weight`, `t` are plain
    numbers, read at each forward. Initial weight as in `softmax.py`.
    """

    title = "SphereFace2"
    scoring = "cosine"
    min_utterances_per_speaker = 1

    def __init__(
        self,
        embedding_dim: int,
        n_speakers: int,
        *,
        margin: float,
        scale: float,
        positive_weight: float,
        t: float,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.margin = number("sphereface2: margin", margin, least=0)
        self.scale = number("sphereface2: scale", scale, above=0)
        self.positive_weight = number(
            "sphereface2: positive_weight", positive_weight, above=0, below=1
        )
        self.t = number("sphereface2: t", t, least=1)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))
        self.b = nn.Parameter(torch.tensor(self.balanced_bias()))

    def balanced_bias(self) -> float:
        """The b at which the gradients of positives and negatives balance if every cosine is 0.

        positive_weight * sigmoid(-p) = (1 - positive_weight) * (C - 1) * sigmoid(n) is a quadratic
        equation in exp(b), solved for its positive root.
        """
        at_zero = 2 * 0.5**self.t - 1
        p, n = self.scale * (at_zero - self.margin), self.scale * (at_zero + self.margin)
        negatives = max(self.n_speakers - 1, 1)
        ratio = self.positive_weight / ((1 - self.positive_weight) * negatives)
        root = math.sqrt((1 - ratio) ** 2 + 4 * ratio * math.exp(p - n))
        if ratio > 1:  # the same root in the form that does not cancel
            return math.log((ratio - 1 + root) / 2) - p
        return math.log(2 * ratio / (1 - ratio + root)) - n

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        cosines = cosine_matrix(x, self.weight)  # (N * M, C)
        g = 2 * ((cosines + 1) / 2).clamp_min(0).pow(self.t) - 1
        p = self.scale * (g.gather(1, y[:, None]) - self.margin) + self.b  # (N * M, 1)
        n = (self.scale * (g + self.margin) + self.b).scatter(1, y[:, None], -torch.inf)
        of_positive = self.positive_weight * F.softplus(-p).sum(dim=1)
        of_negatives = (1 - self.positive_weight) * F.softplus(n).sum(dim=1)
        return (of_positive + of_negatives).mean() / self.scale
