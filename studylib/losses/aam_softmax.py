"""AAM-Softmax (ArcFace): classification with a margin added to the angle of the true speaker."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.losses.common import add_angle, cosine_matrix, flatten, loss_forward, number


class AamSoftmax(nn.Module):
    """Cross-entropy of scaled cosines, with a margin added to the true speaker's angle.

        logit_y = scale * cos(theta_y + margin)     for the true speaker y of x
        logit_j = scale * cos(theta_j)              for every other speaker j
        loss    = mean over the N * M utterances of  -log( exp(logit_y) / sum_j exp(logit_j) )

    Past theta_y + margin = pi the cosine would rise again and reward the worst embeddings; there
    logit_y = scale * (cos(theta_y) - margin * sin(margin)), which goes on falling.

    Source: Deng et al. 2019 (ArcFace), equation 3. The falling branch is that of the authors' code
    and of Chung et al. 2020. Coria et al. 2020 chose margin 0.05 and scale 10.

    Departures: none in value. `add_angle` expands the cosine of a sum and keeps the sine off zero,
    where neither arccos nor a square root has a finite derivative.

    Legend: theta_j the angle in radians between x and row j of weight (C, D); margin in radians;
    N, M, D, C and the initial weight as in `softmax.py`. `margin` and `scale` are plain numbers,
    read at each forward: the training loop may schedule them.
    """

    title = "AAM-softmax"
    scoring = "cosine"
    min_utterances_per_speaker = 1

    def __init__(self, embedding_dim: int, n_speakers: int, *, margin: float, scale: float) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.margin = number("aam_softmax: margin", margin, least=0, below=math.pi / 2)
        self.scale = number("aam_softmax: scale", scale, above=0)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, embedding_dim)))

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the speakers labels (N,): a scalar."""
        x, y = flatten(embeddings, labels)
        cosines = cosine_matrix(x, self.weight)  # (N * M, C)
        cos_y = cosines.gather(1, y[:, None])  # (N * M, 1), the true speaker's
        logits = self.scale * cosines.scatter(1, y[:, None], add_angle(cos_y, self.margin))
        return F.cross_entropy(logits, y)
