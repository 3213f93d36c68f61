"""What a training leaves on the disk: a checkpoint on the way, its result when it is whole."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from studylib.corpora.hygiene import KNOWN_SPEAKERS, known_to_model
from studylib.corpora.store import Corpus
from studylib.files.paths import project_root
from studylib.models.embedder import save_model
from studylib.pipeline.provenance import write_json
from studylib.training.learner import Learner
from studylib.training.settings import RunSettings

CHECKPOINT = "checkpoint.pt"


def fingerprint(settings: RunSettings, corpus: Corpus, seed: int, source: str) -> str:
    """A name for all that decides a run's outcome; how many processes train it does not."""
    decisive = settings.model_dump(mode="json", exclude={"train": {"checkpoint_seconds"}})
    document = json.dumps([decisive, corpus.description, seed, source], sort_keys=True)
    return f"{settings.name}-{seed}-{hashlib.sha256(document.encode()).hexdigest()[:12]}"


def restore_checkpoint(learner: Learner, folder: Path, device: torch.device) -> bool:
    """Go back to where an interrupted run was, if it left a checkpoint."""
    if not (folder / CHECKPOINT).exists():
        return False
    learner.restore(torch.load(folder / CHECKPOINT, map_location=device, weights_only=True))
    return True


def save_checkpoint(learner: Learner, folder: Path) -> None:
    """Write all that a step changes, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{CHECKPOINT}.partial"
    torch.save(learner.state(), partial)
    partial.replace(folder / CHECKPOINT)


def write_result(
    out: Path, learner: Learner, known: list[dict] | None, manifest: dict[str, Any]
) -> None:
    """Replace `out` by the model, whom it knows, its curve.csv and manifest.json."""
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_model(learner.model, partial / "model.safetensors", scoring=learner.criterion.scoring)
    columns = None if learner.curve else ["crops", "step", "epoch", "loss", "learning_rate"]
    pd.DataFrame(learner.curve, columns=columns).to_csv(partial / "curve.csv", index=False)
    if known is not None:
        write_json(partial / KNOWN_SPEAKERS, known)
    write_json(partial / "manifest.json", manifest)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


def known_to_learner(settings: RunSettings, learned: dict | None) -> list[dict] | None:
    """Whom the model knows: those it learned, if any, and those of its initial weights.

    None where that is not known: imported weights that were trained no further.
    """
    start = settings.train.initial_weights
    before = known_to_model(project_root() / start) if start else []
    return [*(before or []), learned] if learned else before
