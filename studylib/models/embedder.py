"""A trunk with its features: samples -> embeddings on any device; saving and loading."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.files.atomic import atomic_file
from studylib.models.features import SAMPLE_RATE, make_features
from studylib.models.trunks import TRUNKS, trunk_keywords

INT16_RANGE = 32_768.0
SCORINGS = ("cosine", "euclidean")


class Embedder(nn.Module):
    """Features, then trunk: samples (B, S) -> embeddings (B, D).

    Parameters
    ----------
    trunk : str
        A key of `TRUNKS`.
    parameters : mapping
        Keywords of the trunk's constructor.

    Attributes
    ----------
    trunk, features : nn.Module
        The network, and what computes its input.
    name : str
        As given.
    keywords : dict
        All of the trunk's keywords, defaults included. (`parameters()` are the weights.)
    embedding_dim : int
        Length D of the embeddings.
    further : dict
        Plain values kept in the model's file, such as its calibration; empty after training.

    Raises
    ------
    StudyError
        An unknown trunk or keyword, or a value that it does not take.
    """

    def __init__(self, trunk: str, parameters: Mapping[str, Any] = {}) -> None:
        super().__init__()
        self.name, self.keywords = trunk, trunk_keywords(trunk, parameters)
        self.trunk = TRUNKS[trunk](**self.keywords)
        self.features = make_features(self.trunk)
        self.embedding_dim = self.trunk.fc.out_features
        self.further: dict[str, Any] = {}

    def forward(self, samples: Tensor) -> Tensor:
        """Samples are int16, or floats in [-1, 1]."""
        waveform = as_waveforms(samples).to(self.trunk.fc.weight.dtype)
        return self.trunk(self.features(waveform))


def as_waveforms(samples: Tensor) -> Tensor:
    """Samples, int16 or already floats in [-1, 1], as floats in [-1, 1]."""
    return samples if samples.is_floating_point() else samples.float() / INT16_RANGE


def save_model(model: Embedder, path: Path, *, scoring: str) -> None:
    """Write the trunk's weights, with what is needed to build it again and to score with it.

    And with a checksum of all this, which `load_model` compares.
    """
    weights = {name: value.contiguous().cpu() for name, value in model.trunk.state_dict().items()}
    trunk = {"name": model.name, "parameters": model.keywords}
    description = {"trunk": trunk, "scoring": scoring, **model.further}
    description["checksum"] = _checksum(description, weights)
    # One entry: the library writes several in another order each time, and bytes are compared.
    with atomic_file(path) as partial:
        partial.write_bytes(save(weights, {"model": json.dumps(description)}))


def load_model(path: Path) -> tuple[Embedder, str]:
    """Read what `save_model` wrote: the model in evaluation mode, and its scoring.

    Weights stored in half precision are read into full precision.

    Raises
    ------
    StudyError
        If the file is missing, is not such a model, has changed, or holds weights that are not the
        trunk's.
    """
    if not path.exists():
        raise StudyError(f"{path} does not exist: expected the model of a trained run")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise StudyError(f"{path} is not a readable safetensors file: {error}") from None
    try:
        description = json.loads(metadata["model"])
        scoring, checksum = description["scoring"], description.pop("checksum", None)
        trunk = description["trunk"]["name"], dict(description["trunk"]["parameters"])
    except (KeyError, TypeError, ValueError):
        raise StudyError(f"{path} does not say which trunk it holds: no model of ours") from None
    if scoring not in SCORINGS:
        raise StudyError(f"{path}: scoring is {scoring!r}, expected {' or '.join(SCORINGS)}")
    try:
        model = Embedder(*trunk)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from None
    full = {n: w.float() if w.dtype == torch.float16 else w for n, w in weights.items()}
    check_weights(full, model.trunk.state_dict(), path)
    if checksum not in (None, _checksum(description, weights)):
        raise StudyError(f"{path} has changed since it was written: its checksum differs")
    model.further = {k: v for k, v in description.items() if k not in ("trunk", "scoring")}
    model.trunk.load_state_dict(full)
    return model.eval(), scoring


def _checksum(description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of what a file says of its model, and of its weights."""
    text = json.dumps(description, sort_keys=True)
    return hashlib.sha256(text.encode() + save(weights)).hexdigest()


def check_weights(given: Mapping[str, Tensor], ours: Mapping[str, Tensor], path: Path) -> None:
    """Names, shapes and types of the weights of a file are those of our trunk, and all are finite.

    Raises
    ------
    StudyError
    """
    if unmatched := sorted(given.keys() ^ ours.keys()):
        raise StudyError(f"{path}: its weights are not those of its trunk, {unmatched[0]} for one")
    for name, weight in given.items():
        if weight.shape != ours[name].shape or weight.dtype != ours[name].dtype:
            raise StudyError(
                f"{path}: {name} is {weight.dtype} of shape {tuple(weight.shape)}, "
                f"expected {ours[name].dtype} of shape {tuple(ours[name].shape)}"
            )
        if not weight.isfinite().all():
            raise StudyError(f"{path}: {name} holds numbers that are not finite")


@torch.inference_mode()
def embed(
    model: Embedder,
    corpus: Any,
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
    corpus : Corpus
        Anything with a table `utterances` whose column `length` counts samples, and a method
        `crops(rows, starts, length)` that gives int16 samples (B, length).
    rows : (U,) int
        Rows of the corpus.
    crops : int
        Crops an utterance: the first at its start, the last at its end, evenly between; a single
        one lies in the middle. An utterance shorter than a crop is repeated to fill it.
    crop_seconds : float or None
        Length of a crop; None takes each utterance whole.
    batch_seconds : float
        Audio embedded in one batch, at most, except for longer crops.

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
        # The crops of one utterance alone may be more than a batch.
        batches = torch.from_numpy(samples).split(max(1, int(batch_seconds * SAMPLE_RATE / crop)))
        # Not `model(...)`: a compiled model would be compiled again for each shape.
        embeddings = torch.cat([model.forward(batch.to(device)).float().cpu() for batch in batches])
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
    # Whole utterances differ in length: one in a batch.
    size = max(1, int(batch_seconds / crop_seconds / crops)) if crop_seconds else 1
    for first in range(0, len(lengths), size):
        part = slice(first, first + size)
        crop = round(crop_seconds * SAMPLE_RATE) if crop_seconds else int(lengths[first])
        room = np.maximum(lengths[part] - crop, 0)
        yield part, np.floor(room[:, None] * shares).astype(np.int64), crop
