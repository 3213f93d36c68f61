"""The losses of the study, one file each.

A loss is built as `LOSSES[name](embedding_dim, n_speakers, margin=..., ...)` and called with
embeddings (N, M, D) of N speakers by M utterances and their labels (N,); it gives a scalar. It says
by `title` its name in print and by `scoring` how its embeddings are compared; the order here is the
order in print. A new loss is one new file, named as its key, and one line here (with its import).
Initial weights come from torch's global generator: seed it before building the loss.
"""

from torch import nn

from studylib.losses.aam_softmax import AamSoftmax
from studylib.losses.am_softmax import AmSoftmax
from studylib.losses.angular_prototypical import AngularPrototypical
from studylib.losses.center import Center
from studylib.losses.circle import Circle
from studylib.losses.coco import Coco
from studylib.losses.contrastive import Contrastive
from studylib.losses.ge2e import Ge2e
from studylib.losses.prototypical import Prototypical
from studylib.losses.softmax import Softmax
from studylib.losses.softmax_prototypical import SoftmaxPrototypical
from studylib.losses.sphereface2 import Sphereface2
from studylib.losses.subcenter_aam_softmax import SubcenterAamSoftmax
from studylib.losses.supcon import Supcon
from studylib.losses.triplet import Triplet

LOSSES: dict[str, type[nn.Module]] = {
    # Classification: one label for each utterance, a learned weight for each training speaker
    "softmax": Softmax,
    "am_softmax": AmSoftmax,
    "aam_softmax": AamSoftmax,
    "subcenter_aam_softmax": SubcenterAamSoftmax,
    "sphereface2": Sphereface2,
    "coco": Coco,
    "center": Center,
    # Metric: the batch's utterances against each other
    "contrastive": Contrastive,
    "triplet": Triplet,
    "ge2e": Ge2e,
    "prototypical": Prototypical,
    "angular_prototypical": AngularPrototypical,
    "supcon": Supcon,
    "circle": Circle,
    # Both
    "softmax_prototypical": SoftmaxPrototypical,
}

__all__ = ["LOSSES"]
