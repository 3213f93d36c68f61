"""Small trainings for the tests: whole runs, single steps, two processes, and one that is killed.

`python training_runs.py SETTINGS CORPUS FOLDER SAVES` trains in float64, and kills itself with
kill -9 after so many checkpoints; 0 lets it end.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from studylib.corpora.store import Corpus, open_corpus
from studylib.errors import StudyError
from studylib.evaluation.development import development_eer
from studylib.training import checkpoints, loop
from studylib.training.distributed import process_group, rank, synchronise_batch_norms
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


def train_run(settings: RunSettings, corpus: Corpus, folder: Path, seed=0, report=list) -> dict:
    """Train into folder/model, with checkpoints beside it; the facts of the clock."""
    return loop.train(
        settings,
        corpus,
        seed,
        folder / "model",
        checkpoints=folder / "checkpoints",
        key=settings.model_dump_json(),
        measure=development_eer,
        report=report,
    )


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


def one_step(settings: RunSettings, *, frozen: bool = False, wide: bool = False) -> dict:
    """The loss, all gradients and all running statistics of a step on a batch of noise.

    In float64 if `wide`: in float32 a unit near zero may be on for one process and off for two.
    """
    learner = (build_in_float64 if wide else build_learner)(settings, SPEAKERS, 0, CPU)
    if frozen:
        learner.model.eval()
    step = loop.TrainingStep(settings, learner, 0, CPU)
    loss = step(noise()[step.share.places], torch.arange(N) + 2, 0, 0.0)
    parts = {"trunk": learner.model.trunk, "loss": learner.criterion}
    found = {"value": loss}
    for part, module in parts.items():
        found |= {f"{part}.{name}": p.grad for name, p in module.named_parameters()}
    found |= {f"running.{name}": b for name, b in learner.model.trunk.named_buffers()}
    dense = torch.contiguous_format
    return {name: v.clone(memory_format=dense) for name, v in found.items() if v is not None}


def noise() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(-3000, 3000, (N * M, 8000), generator=generator).short()


def largest(found: dict[str, Tensor], part: str) -> float:
    """The largest number of a part: what the rounding of its others is measured against."""
    return max(float(v.abs().max()) for key, v in found.items() if key.split(".")[0] == part)


def normalised(norm: nn.Module, rows: slice) -> dict[str, Tensor]:
    """What a normalisation makes of some rows of a fixed batch, and its gradients."""
    generator = torch.Generator().manual_seed(3)
    x, target = torch.randn(2, 5, 4, 3, dtype=torch.float64, generator=generator).unbind()
    x = (10 + x[rows]).requires_grad_()
    y = norm.double()(x)
    (y * target[rows]).sum().backward()
    return {"y": y.detach(), "x": x.grad, "mean": norm[0].running_mean, "var": norm[0].running_var}


def is_wide(settings: RunSettings) -> bool:
    return settings.train.precision == "float32" and settings.train.augmentation is None


def as_a_process(number: int, port: int, folder: Path, cases: Sequence[str]) -> None:
    """Process 0 or 1: every case's step; then process 1 dies, and process 0 writes what it hears.

    Cases are settings as JSON. Writes <number>-<case>.safetensors, <number>-norm.safetensors and
    heard.txt.
    """
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "RANK": str(number),
        "LOCAL_RANK": str(number),
    }
    try:
        with process_group(CPU, threads=1):
            torch.set_num_threads(1)
            for index, case in enumerate(cases):
                settings = RunSettings.model_validate_json(case)
                found = one_step(settings, wide=is_wide(settings))
                save_file(found, folder / f"{number}-{index}.safetensors")
            norm = nn.Sequential(nn.BatchNorm1d(4))
            synchronise_batch_norms(norm)
            rows = slice(0, 3) if number == 0 else slice(3, 5)
            save_file(normalised(norm, rows), folder / f"{number}-norm.safetensors")
            if rank() == 1:
                os._exit(1)
            one_step(RunSettings.model_validate_json(cases[0]))
    except StudyError as error:
        (folder / "heard.txt").write_text(str(error))


def main(settings: str, corpus: str, folder: str, saves: str) -> None:
    save, left = checkpoints.save_checkpoint, int(saves)

    def save_and_die(learner: Learner, folder: Path) -> None:
        nonlocal left
        save(learner, folder)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with in_float64, patch.object(checkpoints, "save_checkpoint", save_and_die):
        train_run(
            RunSettings.model_validate_json(settings), open_corpus(Path(corpus)), Path(folder)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
