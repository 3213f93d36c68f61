"""Models to and from their files, and a corpus to embeddings."""

import json

import numpy as np
import pytest
import torch
from conftest import TRUNK
from safetensors.torch import load_file, save_file

from studylib.errors import StudyError
from studylib.models import Embedder, embed, load_model


def test_a_model_comes_back_from_its_file_bit_by_bit_for_int16_and_float_samples(model_file):
    torch.manual_seed(0)
    written = Embedder(*TRUNK).eval()
    read, scoring = load_model(model_file)
    samples = torch.randint(-3000, 3000, (2, 16_000), dtype=torch.int16)
    assert torch.equal(written(samples), read(samples))
    assert torch.equal(written(samples), read(samples / 32_768))
    assert (scoring, read.name) == ("cosine", "compact_tdnn")
    # Defaults are written too: the file means the same when a default has changed.
    assert read.keywords == TRUNK[1] | {"normalise": "mean", "pitch": False}


def rewritten(path, description=None, **weights):
    """Write the file anew, its description and some of its weights changed."""
    metadata = {"trunk": {"name": TRUNK[0], "parameters": TRUNK[1]}, "scoring": "cosine"}
    metadata = {"model": json.dumps(metadata | (description or {}))}
    save_file(load_file(path) | weights, path, metadata)


@pytest.mark.parametrize(
    ("description", "weights", "words"),
    [
        ({"scoring": "manhattan"}, {}, "scoring is 'manhattan', expected cosine or euclidean"),
        ({"trunk": None}, {}, "does not say which trunk it holds"),
        ({"trunk": {"name": "xvectr", "parameters": {}}}, {}, "no trunk is named 'xvectr'"),
        ({}, {"fc.bias": torch.zeros(16, dtype=torch.int32)}, r"fc.bias is torch.int32 of shape"),
        ({}, {"fc.bias": torch.zeros(8)}, r"of shape \(8,\), expected torch.float32 of shape"),
        ({}, {"fc.bias": torch.full((16,), torch.nan)}, "fc.bias holds numbers that are not fin"),
        ({}, {"extra": torch.zeros(1)}, "weights are not those of its trunk, extra for one"),
    ],
)
def test_a_file_that_is_not_what_was_written_is_refused(model_file, description, weights, words):
    rewritten(model_file, description, **weights)
    with pytest.raises(StudyError, match=words):
        load_model(model_file)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(StudyError, match="does not exist"):
        load_model(tmp_path / "nothing.safetensors")


def test_an_embedding_does_not_depend_on_the_batch_it_came_in(tiny_corpus, model_file):
    model, _ = load_model(model_file)
    keys = {"crops": 2, "crop_seconds": 1.0, "device": torch.device("cpu")}
    together = embed(model, tiny_corpus, np.arange(60, 70), **keys)
    for seconds in (2.0, 1.0):  # one utterance, one crop in a batch
        alone = embed(model, tiny_corpus, np.arange(60, 70), batch_seconds=seconds, **keys)
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_without_a_length_the_crop_is_the_whole_utterance(tiny_corpus, model_file):
    model, _ = load_model(model_file)
    keys = {"crops": 1, "crop_seconds": None, "device": torch.device("cpu")}
    ours = embed(model, tiny_corpus, np.array([3, 50]), **keys)[1]
    expected = model(torch.from_numpy(tiny_corpus.samples(50))[None]).detach()
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
