"""Two processes do what one does: the same loss, the same gradients, the same run."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import processes
import pytest
import torch
import yaml
from pair import SPEAKERS, as_a_process, is_wide, largest, normalised, one_step, settings_of
from safetensors.torch import load_file
from test_losses import studied
from test_training import KILLED
from torch import nn

from studylib.errors import StudyError
from studylib.losses import LOSSES
from studylib.models.trunks import TRUNKS
from studylib.pipeline.params import read_params, run_settings
from studylib.training import distributed
from studylib.training import step as step_module
from studylib.training.learner import build_learner
from studylib.training.loop import train

AP = {"name": "angular_prototypical"}
AUGMENTATION = {"noise_chance": 0.7, "room_chance": 0.5}
CASES = {
    **{
        f"{name} in chunks of {chunk}": settings_of(
            {"name": name, **studied(name)}, chunk_crops=chunk
        )
        for name in LOSSES
        for chunk in (0, 5)
    },
    **{name: settings_of(AP, {"name": name, "embedding_dim": 8}) for name in TRUNKS},
    "augmented": settings_of(AP, augmentation=AUGMENTATION, chunk_crops=7),
    "bfloat16": settings_of(AP, precision="bfloat16"),
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """The folder that two processes have filled."""
    folder, port = tmp_path_factory.mktemp("pair"), free_port()
    cases = [settings.model_dump_json() for settings in CASES.values()]
    both = [processes.start(as_a_process, n, port, folder, cases) for n in range(2)]
    for process in both:
        process.join()
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_loss_and_the_gradients_of_one(pair, name):
    wide = is_wide(CASES[name])
    alone = one_step(CASES[name], wide=wide)
    found = [load_file(pair / f"{n}-{list(CASES).index(name)}.safetensors") for n in range(2)]
    assert alone.keys() == found[0].keys() == found[1].keys()
    tolerance = 1e-9 if wide else 0.05 if name == "bfloat16" else 1e-4
    for key, value in alone.items():
        assert torch.equal(found[0][key], found[1][key]), key
        scale = largest(alone, key.split(".")[0])
        torch.testing.assert_close(
            found[0][key] / scale, value / scale, rtol=0, atol=tolerance, msg=key
        )


def test_normalisation_over_two_unequal_processes_is_that_of_the_whole_batch(pair):
    whole = normalised(nn.BatchNorm1d(4), slice(0, 5))
    parts = [load_file(pair / f"{n}-norm.safetensors") for n in range(2)]
    for key in ("y", "x"):
        both = torch.cat([part[key] for part in parts])
        torch.testing.assert_close(both, whole[key], rtol=1e-10, atol=1e-12)
    for key in ("mean", "var"):
        torch.testing.assert_close(parts[0][key], whole[key], rtol=1e-12, atol=0)


def test_a_process_whose_partner_died_says_so_in_one_sentence(pair):
    assert "process 0 stops because another of the 2 processes has ended" in (
        pair / "heard.txt"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"speakers_per_batch": 5}, "speakers_per_batch is 5: expected a multiple of the 4 proc"),
        ({"speakers_per_batch": 4, "chunk_crops": 3}, "chunk_crops is 3, too few for 4 processes"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_one_sentence(monkeypatch, keys, sentence):
    monkeypatch.setattr(step_module, "world_size", lambda: 4)
    monkeypatch.setattr(step_module, "parallel", lambda model, device: model)
    settings = settings_of(AP, **keys)
    learner = build_learner(settings, SPEAKERS, 0, torch.device("cpu"))
    with pytest.raises(StudyError, match=sentence):
        step_module.TrainingStep(settings, learner, 0, torch.device("cpu"))


def test_processes_share_the_cores_and_a_number_of_threads_that_the_user_says_is_for_each(
    monkeypatch,
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it
    assert distributed._threads_each(2, cores=16) == 8
    assert distributed._threads_each(32, cores=16) == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert distributed._threads_each(4, cores=16) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert distributed._threads_each(2, cores=16) == 3


TRUNK = {"name": "compact_tdnn", "embedding_dim": 16, "channels": 8}
TRAIN = {
    "crops": 72,
    "optimizer": "sgd",  # in small steps: large ones, and Adam, blow rounding up
    "learning_rate": 0.01,
    "crop_seconds": 0.5,
    "speakers_per_batch": 6,
    "utterances_per_speaker": 2,
    "chunk_crops": 8,
    "measurements": 2,
    "checkpoint_seconds": 1e-6,
    "device": "cpu",
    "threads": 1,
}


def torchrun(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess:
    """Two processes in a folder; this checkout's studylib, not one that is installed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    root = str(Path(__file__).parent.parent)
    return subprocess.run(
        [*command, "--master-port", str(free_port()), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def project(tiny_corpus, tmp_path_factory) -> Path:
    """A project folder with one run, and what one process makes of it."""
    root = tmp_path_factory.mktemp("project")
    (root / "dvc.yaml").touch()
    (root / "data").mkdir()
    (root / "data" / "tiny").symlink_to(tiny_corpus.folder)
    document = {
        "study": {"name": "two", "runs": ["run"], "seeds": [0]},
        "corpus": {"name": "tiny", "source": "embedded"},
        "trunk": TRUNK,
        "train": TRAIN,
        "evaluate": {},
        "runs": {"run": {"loss": AP}},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    trained_alone(root, tiny_corpus, "alone")
    return root


def trained_alone(root: Path, corpus, name: str) -> list[str]:
    """Train the project's run, or go on with it; what was reported."""
    said: list[str] = []
    settings = run_settings(read_params(root / "params.yaml"), "run")
    folder = root / name
    checkpoints = folder / "checkpoints"
    train(settings, corpus, 0, folder / "out", checkpoints=checkpoints, report=said.append)
    return said


def assert_alike(first: Path, second: Path) -> None:
    curves = [pd.read_csv(folder / "curve.csv") for folder in (first, second)]
    columns = ["crops", "step", "epoch", "loss", "learning_rate"]
    pd.testing.assert_frame_equal(curves[0][columns], curves[1][columns], rtol=1e-3)
    assert list(curves[0]["dev_eer"].notna()) == list(curves[1]["dev_eer"].notna())
    weights = [load_file(folder / "model.safetensors") for folder in (first, second)]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_torchrun_with_two_processes_trains_the_run_that_one_process_trains(project):
    done = torchrun("-m", "studylib", "train", "run", "--seed", "0", folder=project)
    assert done.returncode == 0, done.stderr
    out = project / "results" / "two" / "train" / "run-0"
    assert_alike(project / "alone" / "out", out)
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["processes"] == 2
    assert done.stdout.count("72 of 72 crops") == 1


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_two_processes_killed_at_a_checkpoint_are_gone_on_from_by_one(project, tiny_corpus):
    (project / "killed.py").write_text(KILLED, encoding="utf-8")
    settings = run_settings(read_params(project / "params.yaml"), "run")
    arguments = [settings.model_dump_json(), tiny_corpus.folder, project / "cut"]
    killed = torchrun(project / "killed.py", *arguments, folder=project)
    assert killed.returncode != 0
    assert signal.Signals.SIGKILL.name in killed.stderr
    assert len(list((project / "cut" / "checkpoints").rglob("checkpoint.pt"))) == 1
    said = trained_alone(project, tiny_corpus, "cut")
    assert any(line.startswith("going on from step") for line in said)
    assert_alike(project / "alone" / "out", project / "cut" / "out")
