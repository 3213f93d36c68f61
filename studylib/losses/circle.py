"""Circle loss: all pairs of an anchor at once, each weighted by how far it is from its optimum."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import cosine_matrix, flatten, loss_forward, number


class Circle(nn.Module):
    """Raise each anchor's cosines with its speaker and lower the others, the worst by most.

        a_p  = max(0, 1 + margin - s_p)       weight of a positive pair of cosine s_p
        a_n  = max(0, s_n + margin)           weight of a negative pair of cosine s_n
        loss = mean over the S = N * M anchors of
                   log( 1 + sum_n exp(scale * a_n * (s_n - margin))
                          * sum_p exp(-scale * a_p * (s_p - (1 - margin))) )

    Source: Sun et al. 2020 (circle loss, pair-wise labels), who take margin 0.25, scale 256 for
    faces.

    Departures: the mean over anchors of what the paper defines for one. The weights a_p and a_n
    are constants for the gradient, as in the paper: they multiply the gradient of their pair.

    Legend: positives of an anchor are its speaker's other M - 1 utterances, negatives the other
    speakers' (N - 1) * M; M >= 2. `margin` (in cosine) and `scale` (the paper's gamma) are plain
    numbers, read at each forward.
    """

    title = "Circle"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(self, embedding_dim: int, n_speakers: int, *, margin: float, scale: float) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.margin = number("circle: margin", margin, least=0, below=1)
        self.scale = number("circle: scale", scale, above=0)

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        s = cosine_matrix(x, x)  # (S, S)
        a_p, a_n = F.relu(1 + self.margin - s.detach()), F.relu(s.detach() + self.margin)
        logit_p = -self.scale * a_p * (s - (1 - self.margin))
        logit_n = self.scale * a_n * (s - self.margin)
        same = y[:, None] == y
        itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
        of_positives = logit_p.masked_fill(~same | itself, -torch.inf).logsumexp(dim=1)
        of_negatives = logit_n.masked_fill(same, -torch.inf).logsumexp(dim=1)
        return F.softplus(of_positives + of_negatives).mean()
