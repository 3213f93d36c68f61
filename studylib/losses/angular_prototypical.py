"""Angular prototypical loss: classify each query among the prototypes by scaled cosine."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import cosine_matrix, learned_factor, loss_forward, number, positive


class AngularPrototypical(nn.Module):
    """Cross-entropy of each speaker's last utterance among the means of the other utterances.

        c_k     = mean of x_k1 .. x_k(M-1)              the prototype of speaker k
        S_jk    = w * cos(x_jM, c_k) + b,   w > 0       the query of j against prototype k
        loss    = mean over the N speakers j of  -log( exp(S_jj) / sum_k exp(S_jk) )

    Source: Chung et al. 2020, section 2.2 (angular prototypical).

    Departures: w is softplus of the learned number `raw_w`, plus 1e-6, so it is positive by
    construction (clamping a parameter each step either loses its effect or stops its gradient).
    A softmax does not change when all its logits are shifted, so b has no influence on the loss and
    its gradient is zero but for rounding; it is kept because the paper has it.

    Legend: N speakers of M >= 2 utterances, x_ji utterance i of speaker j; prototypes are means of
    embeddings as they come from the trunk, not of normalised ones. w starts at 10, b at -5.
    """

    title = "Angular prototypical"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(
        self, embedding_dim: int, n_speakers: int, *, w: float = 10.0, b: float = -5.0
    ) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.raw_w = learned_factor("angular_prototypical: w", w)
        self.b = nn.Parameter(torch.tensor(float(number("angular_prototypical: b", b))))

    @property
    def w(self) -> Tensor:
        """The positive factor of the cosine, a scalar derived from `raw_w`."""
        return positive(self.raw_w)

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        queries = embeddings[:, -1]  # (N, D)
        prototypes = embeddings[:, :-1].mean(dim=1)  # (N, D)
        logits = self.w * cosine_matrix(queries, prototypes) + self.b  # (N, N)
        own = torch.arange(len(logits), device=logits.device)
        return F.cross_entropy(logits, own)
