"""Small trainings for the tests: whole runs and single steps, also in processes of their own.

`python training_runs.py train SETTINGS CORPUS FOLDER SAVES` trains in float64, and kills itself
with kill -9 after so many checkpoints; 0 lets it end. `torchrun training_runs.py steps FOLDER`
takes a step with each of the settings in cases.json.
"""

import os
import signal
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from studylib.corpora.store import Corpus, open_corpus
from studylib.evaluation.development import development_eer as eer
from studylib.files.atomic import read_json
from studylib.training import checkpoints, loop
from studylib.training.distributed import process_group, rank
from studylib.training.learner import Learner, build_learner
from studylib.training.settings import RunSettings

CPU = torch.device("cpu")
N, M, SPEAKERS = 6, 2, 9
AP = {"name": "angular_prototypical"}
AUGMENTATION = {"noise_chance": 0.7, "room_chance": 0.5}


def settings_of(loss: dict, trunk: dict | None = None, **train) -> RunSettings:
    keys = {"crops": 60, "crop_seconds": 0.5, "device": "cpu", "threads": 1}
    keys |= {"speakers_per_batch": N, "utterances_per_speaker": M}
    return RunSettings(
        study="test",
        name="run",
        corpus={"name": "tiny", "source": "embedded"},
        loss=loss,
        trunk=trunk or {"name": "compact_tdnn", "embedding_dim": 8, "channels": 4},
        train=keys | train,
    )


def train_run(
    settings: RunSettings, corpus: Corpus, folder: Path, *, seed=0, report=list, measure=eer
) -> dict:
    """Train into folder/model, with checkpoints beside it; the facts of the clock."""
    folders = {"out": folder / "model", "checkpoints": folder / "checkpoints"}
    how = {"key": settings.model_dump_json(), "measure": measure, "report": report}
    return loop.train(settings, corpus, seed, **folders, **how)


def trained(settings: RunSettings, corpus: Corpus, folder: Path, **keys) -> dict[str, Tensor]:
    """The weights of a run."""
    train_run(settings, corpus, folder, **keys)
    return load_file(folder / "model" / "model.safetensors")


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def build_in_float64(*arguments) -> Learner:
    """`build_learner` with model and loss in float64, where no result comes of rounding."""
    learner = build_learner(*arguments)
    learner.model.double()
    learner.criterion.double()
    return learner


in_float64 = patch.object(loop, "build_learner", build_in_float64)


def one_step(settings: RunSettings, *, frozen: bool = False) -> dict[str, Tensor]:
    """The loss, all gradients and all running statistics of a step on a batch of noise.

    In float64 where it can be: in float32 a unit near zero may be on for one process and off for
    two.
    """
    wide = settings.train.precision == "float32" and settings.train.augmentation is None
    learner = (build_in_float64 if wide else build_learner)(settings, SPEAKERS, 0, CPU)
    if frozen:
        learner.model.eval()
    step = loop.TrainingStep(settings, learner, 0, CPU)
    found = {"value": step(noise()[step.share.places], torch.arange(N) + 2, 0, 0.0)}
    for part, module in {"trunk": learner.model.trunk, "loss": learner.criterion}.items():
        found |= {f"{part}.{name}": p.grad for name, p in module.named_parameters()}
    found |= {f"running.{name}": b for name, b in learner.model.trunk.named_buffers()}
    dense = torch.contiguous_format
    return {name: v.clone(memory_format=dense) for name, v in found.items() if v is not None}


def noise() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-3000, 3000, (N * M, 8000), generator=generator).short()


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Steps that agree, measured against the largest number of the trunk, the loss, ... each."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        part = name.split(".")[0]
        scale = max(float(v.abs().max()) for key, v in expected.items() if key.startswith(part))
        assert ((found[name] - value).abs() <= tolerance * scale).all(), name


def steps(folder: str) -> None:
    """Writes <case>-<process>.safetensors."""
    with process_group(CPU, threads=1):
        torch.set_num_threads(1)
        for name, case in read_json(Path(folder, "cases.json")).items():
            found = one_step(RunSettings.model_validate(case))
            save_file(found, Path(folder, f"{name}-{rank()}.safetensors"))


def train(settings: str, corpus: str, folder: str, saves: str) -> None:
    save, left = checkpoints.save_checkpoint, int(saves)

    def save_and_die(learner: Learner, folder: Path) -> None:
        nonlocal left
        save(learner, folder)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    run = RunSettings.model_validate_json(settings)
    with in_float64, patch.object(checkpoints, "save_checkpoint", save_and_die):
        train_run(run, open_corpus(Path(corpus)), Path(folder))


if __name__ == "__main__":
    {"steps": steps, "train": train}[sys.argv[1]](*sys.argv[2:])
