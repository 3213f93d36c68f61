"""Sub-center AAM-Softmax with inter-top-k: several directions a speaker, and harder rivals."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import add_angle, cosine_matrix, flatten, loss_forward, require


class SubcenterAamSoftmax(nn.Module):
    """Give each speaker a few directions, of which the nearest counts, and press the worst rivals.

        cos(theta_j) = max over k of cos(x, weight_jk)         k = 1 .. n_subcenters
        logit_y = scale * cos(theta_y + margin)                for the true speaker y of x
        logit_j = scale * cos(theta_j - rival_margin)          for the n_rivals others nearest to x
        logit_j = scale * cos(theta_j)                         for the rest
        loss    = mean over the N * M utterances of  -log( exp(logit_y) / sum_j exp(logit_j) )

    Noisy labels and odd recordings of a speaker gather around a direction of their own.

    Source: Deng et al. 2020 (sub-center ArcFace); Zhao et al. 2021 (inter-top-k penalty), who take
    n_rivals 5 and rival_margin 0.06. With one sub-center and no rivals it is `aam_softmax.py`.

    Departures: cos(theta - rival_margin) would fall again as theta goes below rival_margin and
    reward a rival met exactly; there cos(theta) + rival_margin * sin(rival_margin) goes on rising.

    Legend: angles in radians; weight (C * n_subcenters, D), a speaker's rows side by side; N
    speakers of M utterances, C training speakers. `margin`, `scale`, `rival_margin` are plain
    numbers, read at each forward. Initial weight as in `softmax.py`.
    """

    scoring = "cosine"
    min_utterances_per_speaker = 1

    def __init__(
        self,
        embedding_dim: int,
        n_speakers: int,
        *,
        margin: float,
        scale: float,
        n_subcenters: int,
        n_rivals: int,
        rival_margin: float,
    ) -> None:
        super().__init__()
        name, quarter = "subcenter_aam_softmax", math.pi / 2
        require(0 <= margin < quarter, f"{name}: margin is in radians, got {margin}.")
        require(0 <= rival_margin < quarter, f"{name}: rival_margin is in radians.")
        require(scale > 0, f"{name}: scale must be positive, got {scale}.")
        require(n_subcenters >= 1, f"{name}: n_subcenters must be at least 1, got {n_subcenters}.")
        require(
            0 <= n_rivals < n_speakers,
            f"{name}: n_rivals must be below the {n_speakers} training speakers, got {n_rivals}.",
        )
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.margin, self.scale, self.rival_margin = margin, scale, rival_margin
        self.n_subcenters, self.n_rivals = n_subcenters, n_rivals
        weight = torch.empty(n_speakers * n_subcenters, embedding_dim)
        self.weight = nn.Parameter(nn.init.xavier_normal_(weight))

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        target = y[:, None]
        cosines = cosine_matrix(x, self.weight)  # (N * M, C * n_subcenters)
        cosines = cosines.unflatten(1, (self.n_speakers, self.n_subcenters)).amax(dim=2)
        cos_y = cosines.gather(1, target)
        others = cosines.scatter(1, target, -torch.inf)  # (N * M, C)
        cos_rivals, rivals = others.topk(self.n_rivals, dim=1)  # (N * M, n_rivals)
        # cos(theta - m) = -cos((pi - theta) + m)
        turned = -add_angle(-cos_rivals, self.rival_margin)
        logits = cosines.scatter(1, rivals, turned)
        logits = logits.scatter(1, target, add_angle(cos_y, self.margin))
        return F.cross_entropy(self.scale * logits, y)
