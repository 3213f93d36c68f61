"""Files of training: checkpoints while it runs, the result at its end."""

import hashlib
import io
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save

from studylib.corpora.hygiene import KNOWN_SPEAKERS, known_speakers, known_to_model
from studylib.errors import StudyError
from studylib.files.atomic import atomic_file, atomic_folder, read_json, write_json
from studylib.files.checksums import digest, sha256
from studylib.files.disk import exclusive
from studylib.files.paths import project_root
from studylib.models.embedder import save_model
from studylib.training.distributed import from_first_process, rank
from studylib.training.learner import Learner
from studylib.training.loading import TrainingData
from studylib.training.settings import RunSettings

KEPT = 2  # checkpoints: should the last one be damaged, the one before is there
CURVE_COLUMNS = ["crops", "step", "epoch", "loss", "learning_rate"]
NAMES, DIGEST_BYTES = "step-*.pt", 32


def checkpoint_folder(checkpoints: Path, name: str, identity: dict[str, Any]) -> Path:
    """The folder of one run's checkpoints, named by all that decides its outcome."""
    return checkpoints / f"{name}-{identity['seed']}-{digest(identity)[:12]}"


def locked(folder: Path) -> AbstractContextManager[None]:
    """Hold the lock of a run's checkpoints, after another training of the run has ended.

    Of many processes only the first holds it.
    """
    lock = folder.with_name(f"{folder.name}.lock")
    return exclusive(lock) if rank() == 0 else nullcontext()


def save_checkpoint(learner: Learner, folder: Path) -> None:
    """Write all that a step changes, after its checksum; remove old checkpoints."""
    buffer = io.BytesIO()
    torch.save(learner.state(), buffer)
    content = buffer.getvalue()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / f"step-{learner.step:010d}.pt") as partial:
        partial.write_bytes(hashlib.sha256(content).digest() + content)
    for old in sorted(folder.glob(NAMES))[:-KEPT]:
        old.unlink()


def restore(
    learner: Learner, folder: Path, device: torch.device, report: Callable[[str], None]
) -> None:
    """Restore the last whole checkpoint of an interrupted run, if there is one."""
    content = from_first_process(_newest(folder, report) if rank() == 0 else None)
    if content is not None:
        buffer = io.BytesIO(content)
        learner.restore(torch.load(buffer, map_location=device, weights_only=True))
        if rank() == 0:
            report(f"going on from step {learner.step:,} of an interrupted run")


def _newest(folder: Path, report: Callable[[str], None]) -> bytes | None:
    """The last checkpoint that is whole; damaged ones are set aside, renamed to `.damaged`."""
    for path in sorted(folder.glob(NAMES), reverse=True):
        whole = path.read_bytes()
        checksum, content = whole[:DIGEST_BYTES], whole[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() == checksum:
            return content
        path.replace(path.with_name(f"{path.name}.damaged"))
        report(f"{path} is damaged and set aside, as {path.name}.damaged")
    return None


def is_whole(out: Path, identity: dict[str, Any]) -> bool:
    """Whether `out` holds the result of the run of this key, seed and corpus, unchanged."""
    try:
        record, model = read_json(out / "training.json"), sha256(out / "model.safetensors")
    except (OSError, StudyError):
        return False
    return record == record | identity | {"model": model}


def write_result(
    out: Path, learner: Learner, settings: RunSettings, data: TrainingData, record: dict[str, Any]
) -> None:
    """Replace `out` by the model, its training speakers, curve.csv and training.json.

    The training speakers are those of the data, if any step was taken, and those of the initial
    weights. If the latter are unknown and no step was taken, the file is left out.
    """
    learner.take_best()
    start = settings.train.initial_weights
    known = known_to_model(project_root() / start) if start else []
    if learner.step:
        known = [*(known or []), known_speakers(data.corpus, data.names)]
    with atomic_folder(out) as partial:
        model = partial / "model.safetensors"
        save_model(learner.model, model, scoring=learner.criterion.scoring)
        # The loss's learned parameters, such as a weight for each training speaker.
        (partial / "loss.safetensors").write_bytes(save(learner.criterion.state_dict()))
        columns = None if learner.curve else CURVE_COLUMNS
        pd.DataFrame(learner.curve, columns=columns).to_csv(partial / "curve.csv", index=False)
        if known is not None:
            write_json(partial / KNOWN_SPEAKERS, known)
        write_json(partial / "training.json", record | {"model": sha256(model)})
