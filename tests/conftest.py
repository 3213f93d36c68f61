"""Fixtures that several test files share."""

import pytest
import torch

from studylib.corpora.store import Corpus
from studylib.corpora.synthetic.embedded import EmbeddedSettings, prepare

TINY = EmbeddedSettings(
    n_train_speakers=12,
    train_utterances=4,
    n_dev_speakers=8,
    dev_utterances=4,
    n_test_speakers=8,
    test_utterances=4,
    seed=1,
)


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """An embedded corpus of 12 + 8 + 8 speakers with 4 utterances each: read it, never write."""
    folder = tmp_path_factory.mktemp("corpora") / "tiny"
    return prepare(TINY, folder, workers=1, progress=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where torch sees none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))
