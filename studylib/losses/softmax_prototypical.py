"""Softmax plus angular prototypical: classify the training speakers and compare within a batch."""

from torch import Tensor, nn

from studylib.losses.angular_prototypical import AngularPrototypical
from studylib.losses.common import loss_forward
from studylib.losses.softmax import Softmax


class SoftmaxPrototypical(nn.Module):
    """Cross-entropy over all training speakers, plus one over the batch's prototypes.

        logit_j = weight_j . x + bias_j                 for each training speaker j
        c_k     = mean of x_k1 .. x_k(M-1)              the prototype of the batch's speaker k
        S_jk    = w * cos(x_jM, c_k) + b,   w > 0       the query of j against prototype k
        loss    = mean over the N * M utterances of  -log( exp(logit_y) / sum_j exp(logit_j) )
                + mean over the N speakers j of      -log( exp(S_jj) / sum_k exp(S_jk) )

    Source: Kwon et al. 2021, who sum `softmax.py` and `angular_prototypical.py` unchanged.

    Departures: those of `angular_prototypical.py`.

    Legend: N speakers of M >= 2 utterances, x_ji utterance i of speaker j, y the label of x; weight
    (C, D) Xavier-normal from torch's global generator at construction, bias (C,) zero at first; w
    starts at 10, b at -5.
    """

    title = "Softmax + angular prototypical"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(
        self, embedding_dim: int, n_speakers: int, *, w: float = 10.0, b: float = -5.0
    ) -> None:
        super().__init__()
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.softmax = Softmax(embedding_dim, n_speakers)
        self.angular_prototypical = AngularPrototypical(embedding_dim, n_speakers, w=w, b=b)

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        return self.softmax(embeddings, labels) + self.angular_prototypical(embeddings, labels)
