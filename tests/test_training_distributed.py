"""Two processes do what one does: the same loss, the same gradients, the same run.

Compared in float64: a training in float32 makes of each rounding another loss curve.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import processes
import pytest
import torch
import training_runs
import yaml
from safetensors.torch import load_file
from test_losses import studied
from torch import nn
from training_runs import (
    AP,
    AUGMENTATION,
    CPU,
    as_a_process,
    in_float64,
    is_wide,
    largest,
    normalised,
    one_step,
    settings_of,
    train_run,
)

from studylib.errors import StudyError
from studylib.losses import LOSSES
from studylib.models.trunks import TRUNKS
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import write_plan
from studylib.training import distributed, gradient_caching

ROOT = Path(__file__).parent.parent
CASES = {
    **{name: settings_of({"name": name, **studied(name)}, chunk_crops=5) for name in LOSSES},
    "softmax in one chunk": settings_of({"name": "softmax"}),
    **{name: settings_of(AP, {"name": name, "embedding_dim": 8}) for name in TRUNKS},
    "augmented": settings_of(AP, augmentation=AUGMENTATION, chunk_crops=7),
    "bfloat16": settings_of(AP, precision="bfloat16"),
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# ------------------------------------------------------------------------------- one step


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
        ({"speakers_per_batch": 4, "chunk_crops": 3}, "chunk_crops is 3: .* but needs 4: two"),
    ],
)
def test_a_batch_that_cannot_be_shared_out_is_one_sentence(monkeypatch, keys, sentence):
    monkeypatch.setattr(gradient_caching, "world_size", lambda: 4)
    with pytest.raises(StudyError, match=sentence):
        gradient_caching.share_out(settings_of(AP, **keys).train, CPU)


def test_processes_share_the_cores_unless_the_user_gives_each_more_than_one_thread(monkeypatch):
    for threads, processes_, cores, each in (("1", 2, 16, 8), ("1", 32, 16, 1), ("3", 2, 16, 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)  # torchrun itself sets it to 1
        monkeypatch.setattr(distributed, "usable_cores", lambda cores=cores: cores)
        assert distributed.threads_each(processes_) == each


# ------------------------------------------------------------------------------ whole runs

TRUNK = {"name": "compact_tdnn", "embedding_dim": 16, "channels": 8}
TRAIN = {"crops": 72, "chunk_crops": 8, "measurements": 2, "checkpoint_seconds": 1e-6}
SETTINGS = settings_of(AP, TRUNK, **TRAIN)


def torchrun(*arguments: str | Path, folder: Path, root: Path = ROOT):
    """Two processes in a folder; the studylib of `root`, not one that is installed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "--master-port", str(free_port()), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def alone(tiny_corpus, tmp_path_factory) -> Path:
    """What one process makes of the run, in float64."""
    folder = tmp_path_factory.mktemp("alone")
    with in_float64:
        train_run(SETTINGS, tiny_corpus, folder)
    return folder / "model"


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
@pytest.mark.parametrize("saves", [0, 3], ids=["whole", "killed and gone on from by one"])
def test_a_run_of_two_processes_is_that_of_one(alone, tiny_corpus, tmp_path, saves):
    arguments = [training_runs.__file__, SETTINGS.model_dump_json(), tiny_corpus.folder, tmp_path]
    done = torchrun(*arguments, str(saves), folder=tmp_path)
    if saves:
        assert done.returncode != 0
        assert signal.Signals.SIGKILL.name in done.stderr
        lines: list[str] = []
        with in_float64:
            train_run(SETTINGS, tiny_corpus, tmp_path, report=lines.append)
        assert lines[0] == "going on from step 3 of an interrupted run"
    else:
        assert done.returncode == 0, done.stderr
    curves = [pd.read_csv(folder / "curve.csv") for folder in (alone, tmp_path / "model")]
    pd.testing.assert_frame_equal(*curves, rtol=1e-6)
    weights = [load_file(f / "model.safetensors") for f in (alone, tmp_path / "model")]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-6, atol=1e-9, msg=key)


def test_torchrun_with_studylib_train_trains_one_run_in_two_processes(tiny_corpus, tmp_path):
    (tmp_path / "dvc.yaml").touch()
    shutil.copytree(ROOT / "studylib", tmp_path / "studylib")
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "experiment.ipynb", tmp_path / "notebooks")
    shutil.copytree(tiny_corpus.folder, tmp_path / "data" / "tiny")
    document = {
        "study": {"name": "two", "runs": ["run"], "seeds": [0]},
        "corpus": {"name": "tiny", "source": "embedded"},
        "trunk": TRUNK,
        "train": SETTINGS.train.model_dump(mode="json", exclude_none=True),
        "evaluate": {},
        "runs": {"run": {"loss": AP}},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    write_plan(tmp_path, read_params(tmp_path / "params.yaml"))
    done = torchrun("-m", "studylib", "train", "run", "--seed", "0", folder=tmp_path, root=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("72 of 72 crops") == 1
    (curve,) = (tmp_path / "results").rglob("curve.csv")
    train_run(SETTINGS, tiny_corpus, tmp_path / "alone")
    expected = pd.read_csv(tmp_path / "alone" / "model" / "curve.csv")["loss"]
    assert pd.read_csv(curve)["loss"][0] == pytest.approx(expected[0], rel=1e-4)
