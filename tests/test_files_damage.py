"""Every range of bytes of a corpus, a checkpoint and a model is changed: found, or no effect."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from test_corpora_store import write as write_corpus
from training_runs import AP, CPU, SPEAKERS, assert_same, build_learner, settings_of

from studylib.corpora.store import Corpus, open_corpus
from studylib.errors import StudyError
from studylib.models.embedder import Embedder, load_model, save_model
from studylib.training.checkpoints import restore, save_checkpoint

RANGES = 100  # of a longer file; of a shorter one, every byte


def damaged(path: Path) -> Iterator[int]:
    """Write the file again and again, each time with one bit changed or, at last, cut."""
    content, rng = path.read_bytes(), np.random.default_rng(0)
    bounds = np.unique(np.linspace(0, len(content), RANGES + 1).astype(int))
    for begin, end in pairwise(bounds):
        changed = bytearray(content)
        changed[rng.integers(begin, end)] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        yield begin
    for end in bounds[:-1:10]:
        path.write_bytes(content[:end])
        yield end
    path.write_bytes(content)


def content(corpus: Corpus) -> tuple:
    samples = [corpus.samples(row).tobytes() for row in range(len(corpus.utterances))]
    lists = [corpus.trials(name).to_csv() for name in corpus.trial_lists]
    return corpus.utterances.to_csv(), samples, lists


@pytest.mark.parametrize(
    "name", ["corpus.json", "utterances.parquet", "trials/some.parquet", "audio.i16"]
)
def test_a_corpus(tmp_path, name):
    expected, found = content(write_corpus(tmp_path / "noise")), 0
    for _ in damaged(tmp_path / "noise" / name):
        try:
            assert content(open_corpus(tmp_path / "noise", verify=True)) == expected
        except StudyError as error:
            assert Path(name).name in str(error)  # noqa: PT017
            found += 1
    assert found > 0.8 * RANGES


def test_a_model(tmp_path):
    torch.manual_seed(0)
    model, path = Embedder("compact_tdnn", {"embedding_dim": 8, "channels": 4}), tmp_path / "model"
    save_model(model, path, scoring="cosine")
    found = 0
    for _ in damaged(path):
        try:
            again, scoring = load_model(path)
            assert (again.name, again.keywords, scoring) == (model.name, model.keywords, "cosine")
            assert_same(again.trunk.state_dict(), model.trunk.state_dict())
        except StudyError:
            found += 1
    assert found > 0.8 * RANGES


def test_a_checkpoint(tmp_path):
    learner = build_learner(settings_of(AP), SPEAKERS, 0, CPU)
    learner.step = 7
    save_checkpoint(learner, tmp_path)
    (path,) = tmp_path.iterdir()
    for _ in damaged(path):
        learner.step, lines = 0, []
        restore(learner, tmp_path, CPU, lines.append)
        assert learner.step == 0
        assert lines == [f"{path} is damaged and set aside, as {path.name}.damaged"]
    restore(learner, tmp_path, CPU, lines.append)
    assert learner.step == 7
