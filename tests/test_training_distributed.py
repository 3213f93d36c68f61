"""Two processes do what one does: the same loss, the same gradients, the same run.

Compared in float64: a training in float32 makes of each rounding another loss curve.
"""

import copy
import os
import signal
from pathlib import Path

import pandas as pd
import pytest
import torch
import training_runs
from made_up import SMALL
from safetensors.torch import load_file
from test_losses import studied
from tiny_project import PARAMS, ROOT, copy_project, run, start
from training_runs import AP, settings_of, train_run

from studylib.files.atomic import write_json
from studylib.losses import LOSSES
from studylib.models.trunks import TRUNKS
from studylib.pipeline.params import read_params
from studylib.pipeline.plan import write_plan

TWO = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# Chunks of three crops: one for the first process, two for the second.
CASES = {
    **{name: settings_of({"name": name, **studied(name)}, chunk_crops=3) for name in LOSSES},
    "softmax in one chunk": settings_of({"name": "softmax"}),
    **{
        name: settings_of(AP, {"name": name, "embedding_dim": 8} | SMALL.get(name, {}))
        for name in TRUNKS
    },
    "augmented": settings_of(AP, augmentation=training_runs.AUGMENTATION, chunk_crops=7),
    "bfloat16": settings_of(AP, precision="bfloat16"),
}
TOLERANCES = {"augmented": 1e-4, "bfloat16": 0.05}
TRUNK = {"name": "compact_tdnn", "embedding_dim": 16, "channels": 8}
TRAIN = {"crops": 72, "chunk_crops": 8, "measurements": 2, "checkpoint_seconds": 1e-6}
SETTINGS = settings_of(AP, TRUNK, **TRAIN)


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    """The folder that two processes have filled with their steps."""
    folder = tmp_path_factory.mktemp("pair")
    cases = {name: settings.model_dump(mode="json") for name, settings in CASES.items()}
    write_json(folder / "cases.json", cases)
    run(ROOT, *TWO, training_runs.__file__, "steps", folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_loss_and_the_gradients_of_one(pair, name):
    found = [load_file(pair / f"{name}-{process}.safetensors") for process in range(2)]
    training_runs.assert_same(*found)
    expected = training_runs.one_step(CASES[name])
    training_runs.assert_close(found[0], expected, TOLERANCES.get(name, 1e-9))


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_a_run_killed_in_two_processes_goes_on_in_one_and_is_that_of_one(tiny_corpus, tmp_path):
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    arguments = ["train", SETTINGS.model_dump_json(), tiny_corpus.folder, cut, "3"]
    _, errors = start(ROOT, *TWO, training_runs.__file__, *arguments).communicate()
    assert signal.Signals.SIGKILL.name in errors
    lines: list[str] = []
    with training_runs.in_float64:
        train_run(SETTINGS, tiny_corpus, cut, report=lines.append)
        train_run(SETTINGS, tiny_corpus, whole)
    assert lines[0] == "going on from step 3 of an interrupted run"
    curves = [pd.read_csv(folder / "model" / "curve.csv") for folder in (cut, whole)]
    pd.testing.assert_frame_equal(*curves, rtol=1e-6)
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (cut, whole)]
    for key, value in weights[1].items():
        torch.testing.assert_close(weights[0][key], value, rtol=1e-6, atol=1e-9, msg=key)


def test_torchrun_with_studylib_train_trains_one_run_in_two_processes(tiny_corpus, tmp_path):
    params = copy.deepcopy(PARAMS) | {"train": SETTINGS.train.model_dump(mode="json")}
    params["runs"]["triplet"] = {"loss": AP}
    project = copy_project(tmp_path / "project", params, tiny_corpus.folder)
    write_plan(project, read_params(project / "params.yaml"))
    printed = run(project, *TWO, "-m", "studylib", "train", "triplet", "--seed", "0")
    assert printed.count("72 of 72 crops") == 1
    (curve,) = (project / "results").rglob("curve.csv")
    train_run(SETTINGS, tiny_corpus, tmp_path / "alone")
    expected = pd.read_csv(tmp_path / "alone" / "model" / "curve.csv")["loss"]
    assert pd.read_csv(curve)["loss"][0] == pytest.approx(expected[0], rel=1e-4)
