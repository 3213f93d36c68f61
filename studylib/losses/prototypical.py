"""Prototypical loss: classify each query among the prototypes by Euclidean distance."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import loss_forward


class Prototypical(nn.Module):
    """Cross-entropy of each speaker's last utterance among the means of the other utterances.

        c_k  = mean of x_k1 .. x_k(M-1)                  the prototype of speaker k
        d_jk = ||x_jM - c_k||^2                          the query of j to prototype k
        loss = mean over the N speakers j of  -log( exp(-d_jj) / sum_k exp(-d_jk) )

    Source: Snell, Swersky and Zemel 2017, equation 2; Chung et al. 2020, section 2.2.

    Departures: none in value. The squared distance is expanded as |q|^2 - 2 q.c + |c|^2, one matrix
    product instead of an N x D x N tensor of differences. Its terms cancel where embeddings are
    long and prototypes close, so they are computed in float64 (on Apple's GPUs, which have none, in
    float32).

    Legend: N speakers of M >= 2 utterances, x_ji utterance i of speaker j. Embeddings are
    normalised neither here nor when they are scored: `scoring` is Euclidean. Nothing is learned.
    """

    title = "Prototypical"
    scoring = "euclidean"
    min_utterances_per_speaker = 2

    def __init__(self, embedding_dim: int, n_speakers: int) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        x = embeddings if embeddings.device.type == "mps" else embeddings.double()
        q, c = x[:, -1], x[:, :-1].mean(dim=1)  # (N, D) each, queries and prototypes
        squares_q, squares_c = q.square().sum(dim=1), c.square().sum(dim=1)
        distances = squares_q[:, None] - 2 * q @ c.T + squares_c  # (N, N)
        own = torch.arange(len(distances), device=distances.device)
        return F.cross_entropy(-distances, own).to(embeddings.dtype)
