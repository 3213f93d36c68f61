"""A trained model as its user meets it: waveforms -> embeddings -> scores -> probabilities."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studylib.errors import StudyError
from studylib.inference.waveforms import as_mono, read_waveform, weaknesses
from studylib.models.embedder import Embedder, even_crops, load_model
from studylib.models.features import SAMPLE_RATE

CROPS = {"crops": 10, "crop_seconds": 4.0}  # of paper B
SYNTHETIC = "embedded"  # the source of corpora that were not recorded
MODEL = "model.safetensors"  # the file in a model's folder
PUBLISHED = Path(__file__).parents[2] / "pretrained"


class SpeakerModel(nn.Module):
    """Recordings -> embeddings -> scores, by evenly spaced crops as in the evaluation.

    Parameters
    ----------
    embedder : Embedder
        Its `further` may hold `calibration` (scale, offset, threshold, target_prior, corpus: the
        recordings it was learned on, and source: their kind), `protocol` (crops, crop_seconds) and
        `centre`, D numbers to subtract from each crop's embedding of length 1.
    scoring : "cosine" or "euclidean"
        How embeddings are compared: mean cosine of all pairs of crops, or mean squared distance
        times -1.
    """

    def __init__(self, embedder: Embedder, scoring: str) -> None:
        super().__init__()
        self.embedder, self.scoring = embedder.eval(), scoring
        self.calibration: dict[str, Any] | None = embedder.further.get("calibration")
        self.protocol: dict[str, Any] = embedder.further.get("protocol", CROPS)
        centre = embedder.further.get("centre")
        self.centre = None if centre is None else np.array(centre)

    def forward(self, waveform: Tensor, rate: int = SAMPLE_RATE) -> Tensor:
        """The embedding (D,) of one recording, (S,) or (channels, S), floats in [-1, 1].

        The mean over crops; for the cosine, of embeddings scaled to length 1, so that the dot
        product of two recordings is their score.
        """
        crops = self.embed_crops(as_mono(waveform, rate))
        return (F.normalize(crops) if self.scoring == "cosine" else crops).mean(dim=0)

    def embed_file(self, path: str | Path) -> Tensor:
        """The embedding (D,) of a file."""
        return self(read_waveform(path))

    @torch.inference_mode()
    def embed_crops(self, waveform: Tensor) -> Tensor:
        """The embeddings (crops, D) of a waveform (S,) at 16 kHz."""
        crops, seconds = self.protocol["crops"], self.protocol["crop_seconds"]
        _, starts, length = next(even_crops(np.array([len(waveform)]), crops, seconds))
        places = torch.from_numpy(starts).T + torch.arange(length)
        device = next(self.embedder.parameters()).device
        crops = self.embedder(waveform[places % len(waveform)].to(device)).cpu()
        if self.centre is None:
            return crops
        return F.normalize(crops) - torch.from_numpy(self.centre).float()

    def score(self, first: Tensor, second: Tensor) -> float:
        """Two recordings' crops (crops, D) -> their score, higher meaning more alike."""
        if self.scoring == "cosine":
            return float((F.normalize(first) @ F.normalize(second).T).mean())
        return -float(torch.cdist(first, second).square().mean())


def load_speaker_model(model: str | Path) -> SpeakerModel:
    """Load a model by its name in pretrained/, its folder or its file."""
    return SpeakerModel(*load_model(model_file(model)))


def model_file(model: str | Path) -> Path:
    """The file of a model, given by its name in pretrained/, its folder or the file itself.

    Raises
    ------
    StudyError
        No such model.
    """
    for path in (Path(model), Path(model) / MODEL, PUBLISHED / model / MODEL):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.parent.name for path in PUBLISHED.glob(f"*/{MODEL}")))
    raise StudyError(f"there is no model {model}: expected a file, a folder or one of {names}")


def verify(
    model: SpeakerModel, first: str | Path, second: str | Path, prior: float = 0.5
) -> dict[str, Any]:
    """Compare two recordings.

    Parameters
    ----------
    prior : float
        The probability of one speaker before the recordings are heard, in (0, 1).

    Returns
    -------
    dict
        score; llr, the natural log-likelihood ratio; probability of one speaker, at the prior;
        same, whether it is 1/2 or more; prior; calibrated_on, the recordings that the ratio was
        learned on; warnings, a list of sentences.

    Raises
    ------
    StudyError
        A recording that cannot be used, a model without calibration, a prior outside (0, 1).
    """
    if not 0 < prior < 1:
        raise StudyError(f"the prior is {prior}: expected a number between 0 and 1")
    if (calibration := model.calibration) is None:
        raise StudyError("the model has no calibration: learn it with `studylib calibrate`")
    warnings, crops = [], []
    for path in (first, second):
        waveform = read_waveform(path)
        crops.append(model.embed_crops(waveform))
        warnings += [f"{path}: {weakness}" for weakness in weaknesses(waveform)]
    if calibration["source"] == SYNTHETIC:
        warnings.append(
            "calibrated on synthetic voices: on your recordings the probability may be far off; "
            "learn it with `studylib calibrate`"
        )
    score = model.score(*crops)
    llr = calibration["scale"] * score + calibration["offset"]
    log_odds = llr + math.log(prior / (1 - prior))
    return {
        "score": score,
        "llr": llr,
        "probability": 0.5 + 0.5 * math.tanh(log_odds / 2),
        "same": log_odds >= 0,
        "prior": prior,
        "calibrated_on": calibration["corpus"],
        "warnings": warnings,
    }
