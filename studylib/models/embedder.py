"""A trunk with its features: from samples to embeddings, on any device, to and from a file."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.models.features import FEATURES, SAMPLE_RATE
from studylib.models.trunks import TRUNKS

INT16_RANGE = 32_768.0


class Embedder(nn.Module):
    """Features, then trunk: samples (B, S) -> embeddings (B, D).

    Parameters
    ----------
    trunk : str
        A key of `TRUNKS`.
    parameters : mapping
        The keywords of the trunk's constructor.

    Attributes
    ----------
    trunk, features : nn.Module
        What computes the embeddings, and what it reads.
    name, keywords
        The trunk's name and constructor keywords, as given. (`parameters()` are its weights.)
    embedding_dim : int
        Length D of the embeddings.
    """

    def __init__(self, trunk: str, parameters: Mapping[str, Any] = {}) -> None:
        super().__init__()
        self.trunk = TRUNKS[trunk](**parameters)
        self.features = FEATURES[self.trunk.features]()
        self.name, self.keywords = trunk, dict(parameters)
        self.embedding_dim = self.trunk.fc.out_features

    def forward(self, samples: Tensor) -> Tensor:
        """Samples are int16, or floats in [-1, 1]."""
        return self.trunk(self.features(as_waveforms(samples)))


def as_waveforms(samples: Tensor) -> Tensor:
    """Samples, int16 or already floats in [-1, 1], as floats in [-1, 1]."""
    return samples if samples.is_floating_point() else samples.float() / INT16_RANGE


def save_model(model: Embedder, path: Path, *, scoring: str) -> None:
    """Write the trunk's weights, with what is needed to build it again and to score with it."""
    trunk = {"name": model.name, "parameters": model.keywords}
    description = {"trunk": trunk, "scoring": scoring}
    # One entry: the library writes several in another order each time, and bytes are compared.
    metadata = {"model": json.dumps(description)}
    weights = {name: value.contiguous().cpu() for name, value in model.trunk.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    save_file(weights, partial, metadata)
    partial.replace(path)


def load_model(path: Path) -> tuple[Embedder, str]:
    """Read what `save_model` wrote: the model in evaluation mode, and its scoring.

    Raises
    ------
    StudyError
        If the file is missing or is not such a model.
    """
    if not path.exists():
        raise StudyError(f"{path} does not exist: expected the model of a trained run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise StudyError(f"{path} is not a readable safetensors file: {error}") from None
    if "model" not in metadata:
        raise StudyError(f"{path} does not say which trunk it holds: expected one of our models")
    description = json.loads(metadata["model"])
    model = Embedder(description["trunk"]["name"], description["trunk"]["parameters"])
    model.trunk.load_state_dict(weights)
    return model.eval(), description["scoring"]


class Utterances(Protocol):
    """What `embed` asks of a corpus."""

    utterances: Any  # a table whose column `length` counts samples

    def crops(self, rows: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
        """(B, length) int16 samples of crops, each beginning at its start in its row."""


@torch.inference_mode()
def embed(
    model: Embedder,
    corpus: Utterances,
    rows: np.ndarray,
    *,
    crops: int,
    crop_seconds: float | None,
    device: torch.device,
    batch_seconds: float = 800.0,
) -> np.ndarray:
    """Embeddings of crops at regular intervals of each utterance.

    Parameters
    ----------
    rows : (U,) int
        Rows of the corpus.
    crops : int
        Crops an utterance: the first at its start, the last at its end, evenly between; a single
        one lies in the middle. An utterance shorter than a crop is repeated to fill it.
    crop_seconds : float or None
        Length of a crop; None takes each utterance whole.
    batch_seconds : float
        Audio embedded at a time, at most, but for crops that are longer.

    Returns
    -------
    (U, crops, D) float32
    """
    was_training = model.training
    model.eval().to(device)
    lengths = corpus.utterances["length"].to_numpy()[rows]
    parts = []
    for part, starts, crop in even_crops(lengths, crops, crop_seconds, batch_seconds):
        samples = corpus.crops(np.repeat(rows[part], crops), starts.ravel(), crop)
        most = max(1, int(batch_seconds * SAMPLE_RATE / crop))  # fewer than the windows of a speech
        # Not through the call: a compiled model would be compiled anew for each shape.
        pieces = torch.from_numpy(samples).split(most)
        embeddings = torch.cat([model.forward(piece.to(device)).float().cpu() for piece in pieces])
        parts.append(embeddings.numpy().reshape(-1, crops, embeddings.shape[-1]))
    model.train(was_training)
    return np.concatenate(parts)


def even_crops(
    lengths: np.ndarray, crops: int, crop_seconds: float | None, batch_seconds: float = 800.0
) -> Iterator[tuple[slice, np.ndarray, int]]:
    """Utterances that are embedded together: which, where their crops start, a crop's samples.

    Parameters
    ----------
    lengths : (U,) int
        In samples.

    Yields
    ------
    slice of the U utterances, (u, crops) int64, int
    """
    shares = np.linspace(0, 1, crops) if crops > 1 else np.array([0.5])
    for part, crop in _parts(lengths, crops, crop_seconds, batch_seconds):
        room = np.maximum(lengths[part] - crop, 0)
        yield part, np.floor(room[:, None] * shares).astype(np.int64), crop


def _parts(
    lengths: np.ndarray, crops: int, crop_seconds: float | None, batch_seconds: float
) -> Iterator[tuple[slice, int]]:
    """Parts of the utterances that are embedded together, and the crop length in samples."""
    if crop_seconds is None:  # whole utterances differ in length: one at a time
        for row, length in enumerate(lengths.tolist()):
            yield slice(row, row + 1), length
        return
    crop = round(crop_seconds * SAMPLE_RATE)
    size = max(1, int(batch_seconds / crop_seconds / crops))
    for first in range(0, len(lengths), size):
        yield slice(first, first + size), crop
