"""Copies of the project with a tiny study, for tests of the pipeline as a user runs it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from conftest import TINY

ROOT = Path(__file__).parent.parent
PARAMS = {
    "study": {"name": "mini", "runs": ["triplet"], "seeds": [0], "baselines": ["logmel_mean_std"]},
    "corpus": {"name": "tiny", "source": "embedded", "settings": TINY.model_dump(mode="json")},
    "trunk": {"name": "compact_tdnn", "embedding_dim": 16, "channels": 8},
    "train": {
        "crops": 8,
        "crop_seconds": 0.5,
        "speakers_per_batch": 2,
        "utterances_per_speaker": 2,
        "checkpoint_seconds": 0.001,
        "device": "cpu",
    },
    "evaluate": {"trials": ["test"], "crops": 1, "crop_seconds": 1.0, "resamples": 10},
    "runs": {"triplet": {"loss": {"name": "triplet", "margin": 0.3, "hard_fraction": 0.5}}},
}


def copy_project(folder: Path, params: Mapping[str, Any], corpus: Path | None = None) -> Path:
    """The package, the notebooks and the pipeline, with DVC, other parameters, and a corpus."""
    for name in ("studylib", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".dvc").mkdir()
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    (folder / "params.yaml").write_text(yaml.safe_dump(dict(params)))
    if corpus is not None:
        shutil.copytree(corpus, folder / "data" / "tiny")
    return folder


def append(path: Path) -> None:
    path.write_text(path.read_text() + "\n# edited\n")


def start(project: Path, *words: str) -> subprocess.Popen:
    """Start a program of the environment in a project, whose own package it imports."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PYTHONPATH": str(project), "CUDA_VISIBLE_DEVICES": "", "PATH": path}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", *words]
    return subprocess.Popen(command, cwd=project, env=os.environ | own, **pipes)


def run(project: Path, *words: str) -> str:
    """What such a program prints; it must succeed."""
    process = start(project, *words)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return out


def stale(project: Path) -> set[str]:
    return set(json.loads(run(project, "dvc", "status", "--json", "experiment")))
