"""The losses of the study, one file each.

A loss is built as `LOSSES[name](embedding_dim, n_speakers, margin=..., ...)` and called with
embeddings (N, M, D) of N speakers by M utterances and their labels (N,); it gives a scalar. A new
loss is one new file, named as its key, and one line here. Initial weights come from torch's global
generator: seed it before building the loss.
"""

from studylib.losses.aam_softmax import AamSoftmax
from studylib.losses.angular_prototypical import AngularPrototypical
from studylib.losses.softmax import Softmax
from studylib.losses.triplet import Triplet

LOSSES = {
    "softmax": Softmax,
    "aam_softmax": AamSoftmax,
    "triplet": Triplet,
    "angular_prototypical": AngularPrototypical,
}

__all__ = ["LOSSES"]
