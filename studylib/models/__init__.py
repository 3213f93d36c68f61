"""Trunks with their features: samples -> embeddings on any device; saved to and loaded from a file.

Needs torch, torchaudio, numpy and safetensors alone, so that torch.hub can load it.
"""

from studylib.models.embedder import Embedder, embed, load_model, save_model
from studylib.models.trunks import TRUNKS

__all__ = ["TRUNKS", "Embedder", "embed", "load_model", "save_model"]
