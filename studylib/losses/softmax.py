"""Softmax cross-entropy: plain classification of the training speakers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import flatten, loss_forward


class Softmax(nn.Module):
    """Cross-entropy of one linear layer over the training speakers; its input is the embedding.

        logit_j = weight_j . x + bias_j                             for each training speaker j
        loss    = mean over the N * M utterances x of  -log( exp(logit_y) / sum_j exp(logit_j) )

    Source: the baseline of Coria et al. 2020, section 2, and of Chung et al. 2020, section 2.1.

    Departures: none from the papers; the code of Coria et al. has no bias. Nothing here is
    normalised, yet both papers score its embeddings by cosine, and so does this study
    (`scoring`).

    Legend: N speakers of M utterances in the batch, D dimensions, C training speakers, y the label
    of x; weight (C, D), Xavier-normal from torch's global generator at construction; bias (C,),
    zero at first.
    """

    title = "Softmax"
    scoring = "cosine"
    min_utterances_per_speaker = 1

    def __init__(self, embedding_dim: int, n_speakers: int) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))
        self.bias = nn.Parameter(torch.zeros(n_speakers))

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)  # (N * M, D), (N * M,)
        logits = F.linear(x, self.weight, self.bias)  # (N * M, C)
        return F.cross_entropy(logits, y)
