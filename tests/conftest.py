"""Fixtures that several test files share."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import torch

from studylib.cli import main
from studylib.corpora.store import Corpus
from studylib.corpora.synthetic.embedded import EmbeddedSettings, prepare
from studylib.models.embedder import Embedder, save_model

ROOT = Path(__file__).parent.parent
TINY = EmbeddedSettings(
    n_train_speakers=12,
    train_utterances=4,
    n_dev_speakers=8,
    dev_utterances=4,
    n_test_speakers=8,
    test_utterances=4,
    seed=1,
)
TRUNK = "compact_tdnn", {"embedding_dim": 16, "channels": 8}


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """An embedded corpus of 12 + 8 + 8 speakers with 4 utterances each: read it, never write."""
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    return prepare(TINY, folder, workers=1, progress=False)


@pytest.fixture
def model_file(tmp_path):
    """An untrained model with the trunk TRUNK, of torch's seed 0."""
    torch.manual_seed(0)
    save_model(Embedder(*TRUNK), tmp_path / "model.safetensors", scoring="cosine")
    return tmp_path / "model.safetensors"


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Files that this process writes end at `size` bytes; skips where no limit can be set."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder without a corpus: what a user's checkout holds."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    (tmp_path / "studylib").symlink_to(ROOT / "studylib")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def studylib(project, monkeypatch, capsys):
    """Run the command in the project."""

    def run(*words: str) -> CompletedProcess:
        monkeypatch.setattr(sys, "argv", ["studylib", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return CompletedProcess(words, ended.value.code or 0, captured.out, captured.err)

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where torch sees none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
