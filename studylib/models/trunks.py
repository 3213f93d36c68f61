"""Trunks: features (B, F, T) -> embeddings (B, D). One file each; none uses labels.

A trunk's `features` is the entry of `features.FEATURES` that it takes, with its `feature_options`
if it has any; its `title` is its name in print. Its first layer normalises the features over time,
`pooling` pools them, and the output of `fc` is the embedding. Any input of at least half a second
is accepted. A new trunk is one new file, named as its key, and one line here (with its import).
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from studylib.errors import StudyError
from studylib.models.compact_tdnn import CompactTdnn
from studylib.models.compact_tdnn_spectrum import CompactTdnnSpectrum
from studylib.models.ecapa_tdnn import EcapaTdnn
from studylib.models.fast_resnet34 import FastResNet34
from studylib.models.features import WINDOWS
from studylib.models.half_resnet34 import HalfResNet34
from studylib.models.normalisation import NORMALISATIONS
from studylib.models.pooling import POOLINGS
from studylib.models.sinc_xvector import SincXVector
from studylib.models.thin_resnet34 import ThinResNet34
from studylib.models.vgg_m40 import VggM40
from studylib.models.xvector import XVector

TRUNKS: dict[str, type[nn.Module]] = {
    "compact_tdnn": CompactTdnn,
    "compact_tdnn_spectrum": CompactTdnnSpectrum,
    "vgg_m40": VggM40,
    "thin_resnet34": ThinResNet34,
    "fast_resnet34": FastResNet34,
    "half_resnet34": HalfResNet34,
    "sinc_xvector": SincXVector,
    "xvector": XVector,
    "ecapa_tdnn": EcapaTdnn,
}
# Keywords that take a word of a few.
CHOICES = {"normalise": NORMALISATIONS, "pooling": POOLINGS, "window": WINDOWS}


def trunk_keywords(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All keywords of a trunk's constructor: those given, and the defaults of the others.

    Raises
    ------
    StudyError
        An unknown trunk or keyword, or a value that the keyword does not take.
    """
    if name not in TRUNKS:
        raise StudyError(f"no trunk is named {name!r}: expected one of {', '.join(TRUNKS)}")
    parameters = inspect.signature(TRUNKS[name]).parameters
    defaults = {key: parameter.default for key, parameter in parameters.items()}
    for key, value in given.items():
        if key not in defaults:
            raise StudyError(f"{name} has no key {key!r}: expected one of {', '.join(defaults)}")
        kind = type(defaults[key])
        if type(value) is not kind or (kind is int and value < 1):
            expected = {int: "a whole number from 1", bool: "true or false", str: "a word"}[kind]
            raise StudyError(f"{name}: {key} is {expected}, got {value!r}")
        if key in CHOICES and value not in CHOICES[key]:
            raise StudyError(f"{name}: {key}: {value!r} is not one of {', '.join(CHOICES[key])}")
    return defaults | dict(given)
