"""Congenerous cosine loss (CoCo): classification by cosine with one centroid for each speaker."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import cosine_matrix, flatten, loss_forward, number


class Coco(nn.Module):
    """Cross-entropy of scaled cosines with one learned centroid for each training speaker.

        logit_j = alpha * cos(x, weight_j)         for each training speaker j
        loss    = mean over the N * M utterances x of  -log( exp(logit_y) / sum_j exp(logit_j) )

    Source: Liu, Li and Wang 2017 (congenerous cosine loss), as compared by Coria et al. 2020, whose
    code takes alpha = 6.25.

    Departures: Liu et al. take the mean of a speaker's embeddings in the batch for its centroid;
    with one utterance of most speakers that mean is the embedding itself, so the centroids are
    learned here, as in the code of Coria et al. The result is AM-Softmax without a margin.

    Legend: row j of weight (C, D) the centroid of training speaker j, y the label of x; N speakers
    of M utterances; weight Xavier-normal from torch's global generator at construction. `alpha` is
    a plain number, read at each forward.
    """

    title = "CoCo"
    scoring = "cosine"
    min_utterances_per_speaker = 1

    def __init__(self, embedding_dim: int, n_speakers: int, *, alpha: float) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.alpha = number("coco: alpha", alpha, above=0)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        logits = self.alpha * cosine_matrix(x, self.weight)  # (N * M, C)
        return F.cross_entropy(logits, y)
