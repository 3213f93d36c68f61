"""Trunks: features (B, F, T) -> embeddings (B, D). One file each; none ever sees a label.

`trunk.features` names the entry of `studylib.features.FEATURES` that it reads; normalising the
features over time is its own first layer. Any input of at least half a second will do.
"""

from torch import nn

from studylib.trunks.compact_tdnn import CompactTdnn
from studylib.trunks.ecapa_tdnn import EcapaTdnn
from studylib.trunks.fast_resnet34 import FastResNet34
from studylib.trunks.sinc_xvector import SincXVector
from studylib.trunks.thin_resnet34 import ThinResNet34
from studylib.trunks.vgg_m40 import VggM40
from studylib.trunks.xvector import XVector

TRUNKS: dict[str, type[nn.Module]] = {
    "compact_tdnn": CompactTdnn,
    "vgg_m40": VggM40,
    "thin_resnet34": ThinResNet34,
    "fast_resnet34": FastResNet34,
    "sinc_xvector": SincXVector,
    "xvector": XVector,
    "ecapa_tdnn": EcapaTdnn,
}
