"""Trunks: features (B, F, T) -> embeddings (B, D). One file each; none ever sees a label.

`trunk.features` names the entry of `studylib.features.FEATURES` that it reads.
"""

from torch import nn

from studylib.trunks.compact_tdnn import CompactTdnn
from studylib.trunks.fast_resnet34 import FastResNet34

TRUNKS: dict[str, type[nn.Module]] = {
    "compact_tdnn": CompactTdnn,
    "fast_resnet34": FastResNet34,
}
