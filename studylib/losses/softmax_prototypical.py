"""Softmax plus angular prototypical: classify the training speakers and compare within a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import (
    cosine_matrix,
    flatten,
    learned_factor,
    loss_forward,
    number,
    positive,
)


class SoftmaxPrototypical(nn.Module):
    """Learn from all training speakers at once, and from the batch's speakers as in a trial.

        logit_j = weight_j . x + bias_j                 for each training speaker j
        c_k     = mean of x_k1 .. x_k(M-1)              the prototype of the batch's speaker k
        S_jk    = w * cos(x_jM, c_k) + b,   w > 0       the query of j against prototype k
        loss    = mean over the N * M utterances of  -log( exp(logit_y) / sum_j exp(logit_j) )
                + mean over the N speakers j of      -log( exp(S_jj) / sum_k exp(S_jk) )

    Source: Kwon et al. 2021, who sum `softmax.py` and `angular_prototypical.py` as they stand.

    Departures: those of `angular_prototypical.py`: w is softplus of the learned `raw_w` plus 1e-6;
    b has no influence on a softmax and is kept because the papers have it.

    Legend: N speakers of M >= 2 utterances, x_ji utterance i of speaker j, y the label of x; weight
    (C, D) Xavier-normal from torch's global generator at construction, bias (C,) zero at first; w
    starts at 10, b at -5.
    """

    title = "Softmax + angular prototypical"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(
        self, embedding_dim: int, n_speakers: int, *, w: float = 10.0, b: float = -5.0
    ) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))
        self.bias = nn.Parameter(torch.zeros(n_speakers))
        self.raw_w = learned_factor("softmax_prototypical: w", w)
        self.b = nn.Parameter(torch.tensor(float(number("softmax_prototypical: b", b))))

    @property
    def w(self) -> Tensor:
        """The positive factor of the cosine, a scalar derived from `raw_w`."""
        return positive(self.raw_w)

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        classification = F.cross_entropy(F.linear(x, self.weight, self.bias), y)
        queries, prototypes = embeddings[:, -1], embeddings[:, :-1].mean(dim=1)  # (N, D) each
        similarities = self.w * cosine_matrix(queries, prototypes) + self.b  # (N, N)
        own = torch.arange(len(queries), device=x.device)
        return classification + F.cross_entropy(similarities, own)
