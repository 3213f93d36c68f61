"""Batches of crops: those of the corpus, with their speakers, in order, whatever a thread does."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from training_runs import AP, CPU, M, N, settings_of

from studylib.training.loading import prefetch, read_batches, training_data
from studylib.training.sampling import BatchSampler

CUDA = torch.device("cuda")
CROP = 8000


def batches(corpus, places=slice(None), device=CPU) -> list[tuple[torch.Tensor, torch.Tensor]]:
    data = training_data(corpus)
    sampler = BatchSampler(data.speakers, settings_of(AP).train, 3)
    return list(prefetch(read_batches(data, sampler, range(2, 9), CROP / 16_000, places, device)))


def assert_equal(first: list[tuple], second: list[tuple]) -> None:
    for one, other in zip(first, second, strict=True):
        assert all(map(torch.equal, one, other))


def test_crops_are_pieces_of_training_utterances_of_the_labelled_speakers(tiny_corpus):
    data = training_data(tiny_corpus)
    audio = {row: tiny_corpus.samples(row).tobytes() for row in data.rows}
    found = batches(tiny_corpus)
    assert len(found) == 7
    for samples, labels in found:
        assert samples.shape == (N * M, CROP)
        assert samples.dtype == torch.int16
        assert len(set(labels.tolist())) == N
        for crop, label in zip(samples.numpy(), labels.repeat_interleave(M), strict=True):
            rows = data.rows[data.speakers == label.item()]
            assert any(crop.tobytes() in audio[row] for row in rows)


def test_a_part_of_each_batch_is_its_places(tiny_corpus):
    places = np.array([5, 0, 1])
    whole = [(samples[places], labels) for samples, labels in batches(tiny_corpus)]
    assert_equal(whole, batches(tiny_corpus, places))


@pytest.mark.gpu
def test_a_gpu_gets_the_same_crops_and_none_is_overwritten_on_its_way(tiny_corpus):
    found = batches(tiny_corpus, device=CUDA)
    assert all(samples.is_pinned() for samples, _ in found)
    sent = [(a.to(CUDA, non_blocking=True), b.to(CUDA, non_blocking=True)) for a, b in found]
    del found
    batches(tiny_corpus, device=CUDA)  # page-locked memory is used again
    assert_equal([(a.cpu(), b.cpu()) for a, b in sent], batches(tiny_corpus))


@pytest.mark.parametrize(
    ("n", "names", "rows", "speakers"),
    [
        (2, ["b", "d"], [0, 1, 2, 4], [1, 0, 0, 1]),
        (None, ["a", "b", "c", "d"], [0, 1, 2, 3, 4, 5], [3, 1, 1, 2, 3, 0]),
    ],
)
def test_training_speakers_are_the_corpus_s_first_and_numbered_by_name(n, names, rows, speakers):
    table = pd.DataFrame({"speaker": list("dbbcdac"), "split": ["train"] * 6 + ["dev"]})
    data = training_data(SimpleNamespace(utterances=table), n)
    assert [data.names.tolist(), data.rows.tolist()] == [names, rows]
    assert data.speakers.tolist() == speakers


def test_items_come_in_order_and_a_failure_while_making_them_reaches_the_caller():
    def broken():
        yield from range(1000)
        raise OSError("disk gone")

    items = prefetch(broken())
    assert [next(items) for _ in range(1000)] == list(range(1000))
    with pytest.raises(OSError, match="disk gone"):
        next(items)
