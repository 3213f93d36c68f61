"""Sub-center AAM-Softmax with inter-top-k: several weights a speaker, penalised rivals."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import add_angle, cosine_matrix, flatten, loss_forward, number


class SubcenterAamSoftmax(nn.Module):
    """AAM-Softmax with the nearest of a speaker's weights, and a margin for the nearest rivals.

        cos(theta_j) = max over k of cos(x, weight_jk)         k = 1 .. n_subcenters
        logit_y = scale * cos(theta_y + margin)                for the true speaker y of x
        logit_j = scale * cos(theta_j - rival_margin)          for the n_rivals others nearest to x
        logit_j = scale * cos(theta_j)                         for the rest
        loss    = mean over the N * M utterances of  -log( exp(logit_y) / sum_j exp(logit_j) )

    Mislabelled and atypical recordings of a speaker may have a sub-center of their own.

    Source: Deng et al. 2020 (sub-center ArcFace); Zhao et al. 2021 (inter-top-k penalty), who take
    n_rivals 5 and rival_margin 0.06. With one sub-center and no rivals it is `aam_softmax.py`.

    Departures: cos(theta - rival_margin) would fall again as theta goes below rival_margin, and
    reward theta = 0; there cos(theta) + rival_margin * sin(rival_margin) goes on rising.

    Legend: angles in radians; weight (C * n_subcenters, D), a speaker's rows side by side; N
    speakers of M utterances, C training speakers. `margin`, `scale`, `rival_margin` are plain
    numbers, read at each forward. Initial weight as in `softmax.py`.
    """

    title = "Sub-center AAM-softmax"
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
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        name, quarter = "subcenter_aam_softmax", math.pi / 2
        self.margin = number(f"{name}: margin", margin, least=0, below=quarter)
        self.scale = number(f"{name}: scale", scale, above=0)
        self.n_subcenters = number(f"{name}: n_subcenters", n_subcenters, least=1, whole=True)
        self.n_rivals = number(f"{name}: n_rivals", n_rivals, least=0, below=n_speakers, whole=True)
        self.rival_margin = number(f"{name}: rival_margin", rival_margin, least=0, below=quarter)
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
