"""Supervised contrastive loss: classify an utterance's positives among the whole batch."""

import torch
from torch import Tensor, nn

from studylib.losses.common import cosine_matrix, flatten, loss_forward, number


class Supcon(nn.Module):
    """Cross-entropy of each positive of an anchor among all other utterances of the batch.

        s_ia = cos(x_i, x_a) / temperature
        loss = mean over the S = N * M anchors i and their M - 1 positives p of
                   -log( exp(s_ip) / sum over all a != i of exp(s_ia) )

    Source: Khosla et al. 2020, equation 2 (the sum over positives outside the logarithm).

    Departures: the mean over anchors, where the paper sums.

    Legend: x_i the S embeddings of the batch, N speakers of M >= 2 utterances; the positives of i
    are its speaker's other utterances. `temperature` is a plain number, read at each forward.
    """

    title = "SupCon"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(self, embedding_dim: int, n_speakers: int, *, temperature: float) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.temperature = number("supcon: temperature", temperature, above=0)

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        s = cosine_matrix(x, x) / self.temperature  # (S, S)
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        positives = (y[:, None] == y) & ~itself
        log_total = s.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
        n_positives = len(x) * (embeddings.shape[1] - 1)
        return torch.where(positives, log_total - s, 0.0).sum() / n_positives
