"""AM-Softmax (CosFace): classification with a margin subtracted from the true speaker's cosine."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import cosine_matrix, flatten, loss_forward, number


class AmSoftmax(nn.Module):
    """Cross-entropy of scaled cosines, with a margin subtracted from the true speaker's.

        logit_y = scale * (cos(theta_y) - margin)    for the true speaker y of x
        logit_j = scale * cos(theta_j)               for every other speaker j
        loss    = mean over the N * M utterances of  -log( exp(logit_y) / sum_j exp(logit_j) )

    Source: Wang, Cheng et al. 2018 (AM-Softmax) and Wang, Wang et al. 2018 (CosFace); compared by
    Chung et al. 2020, section 2.1.

    Departures: none.

    Legend: theta_j the angle between x and row j of weight (C, D); N speakers of M utterances, C
    training speakers; weight Xavier-normal from torch's global generator at construction. `margin`
    (in cosine, not in radians) and `scale` are plain numbers, read at each forward: the training
    loop may schedule them.
    """

    title = "AM-softmax"
    scoring = "cosine"
    min_utterances_per_speaker = 1

    def __init__(self, embedding_dim: int, n_speakers: int, *, margin: float, scale: float) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.margin = number("am_softmax: margin", margin, least=0, below=2)
        self.scale = number("am_softmax: scale", scale, above=0)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        cosines = cosine_matrix(x, self.weight)  # (N * M, C)
        cos_y = cosines.gather(1, y[:, None])  # (N * M, 1), the true speaker's
        logits = self.scale * cosines.scatter(1, y[:, None], cos_y - self.margin)
        return F.cross_entropy(logits, y)
