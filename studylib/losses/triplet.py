"""Triplet loss: each anchor nearer to its own speaker than to another, by a margin."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.losses.common import loss_forward, normalise, number

# How much a distance between normalised embeddings falls as their cosine rises by one:
# ||a - b||^2 = 2 - 2 cos(a, b), and the cosine distance is 1 - cos(a, b).
SLOPE = {"squared_euclidean": 2.0, "cosine": 1.0}


class Triplet(nn.Module):
    """Penalise anchors a not nearer to their speaker's p than to another's n by the margin.

        delta = d(a, p) - d(a, n) + margin,     d(a, b) = ||a - b||^2 or 1 - cos(a, b)
        loss  = mean over the triplets of  max(0, delta)        form "hinge"
                                      or   sigmoid(10 * delta)  form "sigmoid"

    triplets "drawn": the anchor is the first utterance x_j1 of each speaker j, p each of its others
    (one, for M = 2), and n drawn uniformly among the hardest `hard_fraction` of its N - 1
    candidates, at least one: 1.0 draws at random, 0.01 among the hardest 1 %. The candidates are
    the other speakers' second utterances x_k2, k != j.
    triplets "all": every utterance is an anchor, with every p and every n of the hardest fraction
    of the other speakers' (N - 1) * M utterances.

    Source: Schroff et al. 2015; "drawn" with squared Euclidean distance is Chung et al. 2020,
    section 2.2, equation 5 and code (which count utterances from 0), whose curriculum (CHNM) is
    hard_fraction scheduled from 1.0 to 0.01; "all" with cosine distance and margin 0.4, as hinge or
    sigmoid, is Coria et al. 2020.

    Departures: squared distances between unit vectors are 2 - 2 cos, so one matrix of cosines
    suffices, and no difference of vectors is formed. Its hinge has a zero gradient once satisfied.

    Legend: N speakers of M utterances; A anchors of each speaker; K hard negatives of each anchor.
    `margin`, `hard_fraction` are plain numbers, read at each forward. The draws come from the
    loss's own CPU generator, seeded from torch's global generator at construction; its state is in
    `state_dict`.
    """

    title = "Triplet"
    scoring = "cosine"
    min_utterances_per_speaker = 2

    def __init__(
        self,
        embedding_dim: int,
        n_speakers: int,
        *,
        margin: float,
        hard_fraction: float,
        distance: str = "squared_euclidean",
        triplets: str = "drawn",
        form: str = "hinge",
    ) -> None:
        super().__init__()
        for key, value, known in (
            ("distance", distance, tuple(SLOPE)),
            ("triplets", triplets, ("drawn", "all")),
            ("form", form, ("hinge", "sigmoid")),
        ):
            if value not in known:
                raise StudyError(f"triplet: {key} is one of {', '.join(known)}, got {value!r}")
        self.embedding_dim, self.n_speakers = embedding_dim, n_speakers
        self.margin = number("triplet: margin", margin, least=0)
        self.hard_fraction = number("triplet: hard_fraction", hard_fraction, above=0, most=1)
        self.distance, self.triplets, self.form = distance, triplets, form
        self.generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))

    def get_extra_state(self) -> Tensor:
        """The generator's state, so that a resumed run draws the same negatives."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the generator's state from a `state_dict`."""
        self.generator.set_state(state.cpu())

    @loss_forward
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Loss of embeddings (N, M, D) of the distinct speakers labels (N,): a scalar."""
        x = normalise(embeddings)
        drawn = self.triplets == "drawn"
        anchors, candidates = (x[:, :1], x[:, 1:2]) if drawn else (x, x)  # (N, A, D) each
        positives = cosines_to_own(anchors, x)  # (N, A, M - 1)
        negatives = hardest_negatives(anchors, candidates, self.hard_fraction)  # (N, A, K)
        if drawn:
            k = torch.randint(negatives.shape[-1], positives.shape, generator=self.generator)
            negatives = negatives.gather(-1, k.to(x.device, non_blocking=True))
        else:
            positives, negatives = positives[..., :, None], negatives[..., None, :]
        delta = SLOPE[self.distance] * (negatives - positives) + self.margin
        return F.relu(delta).mean() if self.form == "hinge" else torch.sigmoid(10 * delta).mean()


def cosines_to_own(anchors: Tensor, x: Tensor) -> Tensor:
    """Cosine of each anchor (N, A, D) with its speaker's other utterances in x: (N, A, M - 1)."""
    a, m = anchors.shape[1], x.shape[1]
    first = torch.arange(a, device=x.device)[:, None]
    others = (first + torch.arange(1, m, device=x.device)) % m  # (A, M - 1), all but itself
    return (anchors @ x.transpose(1, 2)).gather(-1, others.expand(len(x), -1, -1))


def hardest_negatives(anchors: Tensor, candidates: Tensor, fraction: float) -> Tensor:
    """The highest cosines of each anchor (N, A, D) with other speakers' candidates: (N, A, K).

    Candidates (N, P, D) are P utterances of each speaker; K is the fraction of (N - 1) * P.
    """
    n, p, _ = candidates.shape
    cosines = anchors @ candidates.flatten(0, 1).T  # (N, A, N * P)
    own = torch.eye(n, dtype=torch.bool, device=candidates.device).repeat_interleave(p, dim=1)
    n_hard = max(1, round(fraction * (n - 1) * p))
    return cosines.masked_fill(own[:, None], -torch.inf).topk(n_hard, dim=-1).values
