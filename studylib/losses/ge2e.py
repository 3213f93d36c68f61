"""GE2E: classify each utterance among the centroids, its speaker's computed without it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import learned_factor, loss_forward, normalise, number, positive


class Ge2e(nn.Module):
    """Cross-entropy of each utterance among the centroids, its own speaker's without it.

        c_k     = mean of x_k1 .. x_kM                    centroid of speaker k
        c_j^(i) = mean of x_j1 .. x_jM without x_ji       the same, leaving utterance i out
        S_jik   = w * cos(x_ji, c_k) + b  for k != j,  w * cos(x_ji, c_j^(i)) + b  for k = j
        loss    = mean over the N * M utterances ji of  -log( exp(S_jij) / sum_k exp(S_jik) )

    Source: Wan et al. 2018, section 2.1 (its softmax form); Chung et al. 2020, section 2.2.

    Departures: the mean over utterances, where Wan et al. sum; the centroids are means of the
    embeddings as they come, as in Chung et al., where Wan et al. normalise them first; w is
    softplus of the learned `raw_w` plus 1e-6, positive by construction. All cosines keep their
    gradient, negative ones too. A softmax does not change when all its logits are shifted, so b has
    no influence on the loss; it is kept because the papers have it.

    Legend: N speakers of M >= 2 utterances, x_ji utterance i of speaker j; w starts at 10, b at -5.
    """

    title = "GE2E"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(
        self, embedding_dim: int, n_speakers: int, *, w: float = 10.0, b: float = -5.0
    ) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.raw_w = learned_factor("ge2e: w", w)
        self.b = nn.Parameter(torch.tensor(float(number("ge2e: b", b))))

    @property
    def w(self) -> Tensor:
        """The positive factor of the cosine, a scalar derived from `raw_w`."""
        return positive(self.raw_w)

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        n, m, _ = embeddings.shape
        x = normalise(embeddings)
        # Sums have the directions of the means. The sum of the others is added up, not subtracted
        # from the sum of all, in which one long embedding would leave no digits for the others.
        others = (1 - torch.eye(m, dtype=x.dtype, device=x.device)) @ embeddings  # (N, M, D)
        left_out = (x * normalise(others)).sum(dim=2)  # (N, M): cos(x_ji, c_j^(i))
        cosines = x @ normalise(embeddings.sum(dim=1)).T  # (N, M, N): cos(x_ji, c_k)
        own = torch.eye(n, dtype=torch.bool, device=x.device)[:, None]  # (N, 1, N): k = j
        logits = self.w * torch.where(own, left_out[..., None], cosines) + self.b
        speakers = torch.arange(n, device=x.device).repeat_interleave(m)
        return F.cross_entropy(logits.flatten(0, 1), speakers)
