"""Trunks: features (B, F, T) -> embeddings (B, D). One file each; none ever sees a label.

`trunk.features` names the entry of `features.FEATURES` that it reads; normalising the
features over time is its own first layer. Any input of at least half a second will do.
"""

from torch import nn

from studylib.models.compact_tdnn import CompactTdnn
from studylib.models.ecapa_tdnn import EcapaTdnn
from studylib.models.fast_resnet34 import FastResNet34
from studylib.models.sinc_xvector import SincXVector
from studylib.models.thin_resnet34 import ThinResNet34
from studylib.models.vgg_m40 import VggM40
from studylib.models.xvector import XVector

TRUNKS: dict[str, type[nn.Module]] = {
    "compact_tdnn": CompactTdnn,
    "vgg_m40": VggM40,
    "thin_resnet34": ThinResNet34,
    "fast_resnet34": FastResNet34,
    "sinc_xvector": SincXVector,
    "xvector": XVector,
    "ecapa_tdnn": EcapaTdnn,
}
