"""Gradient caching: the gradients of the whole batch from chunks of it."""

import weakref

import pytest
import torch
from made_up import SMALL
from test_losses import studied
from torch import nn
from training_runs import AP, assert_close, assert_same, one_step, settings_of, trained

from studylib.losses import LOSSES
from studylib.models.embedder import Embedder
from studylib.models.trunks import TRUNKS
from studylib.training.gradient_caching import Share, backward_in_chunks

SHARE = Share(11, torch.arange(11), [4, 4, 3], [4 / 11, 4 / 11, 3 / 11])


@pytest.mark.parametrize("name", LOSSES)
def test_with_frozen_statistics_chunks_give_the_plain_gradients_for_every_loss(name):
    loss = {"name": name, **studied(name)}
    plain = one_step(settings_of(loss), frozen=True)
    assert any(key.startswith("trunk.") and plain[key].abs().max() > 0 for key in plain)
    assert_close(one_step(settings_of(loss, chunk_crops=5), frozen=True), plain, 1e-9)


def normalising_model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 4), nn.BatchNorm1d(4)]
    return nn.Sequential(*layers).double()


def spread(embeddings: torch.Tensor) -> torch.Tensor:
    return torch.pdist(embeddings).log().mean()


def test_in_training_gradients_and_running_statistics_are_those_of_separate_chunks():
    x = torch.randn(11, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cached, whole = normalising_model(), normalising_model()
    value = backward_in_chunks(cached, cached, x, SHARE, spread)
    chunks = x.split(SHARE.sizes)
    expected = spread(torch.cat([whole(chunk) for chunk in chunks]))
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    for ours, true in zip(cached.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, true.grad, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        inputs = [cached[0](chunk) for chunk in chunks]
    mean = torch.cat(inputs).mean(0)  # the mean of the batch: chunks count by their size
    variance = sum(w * i.var(0) for w, i in zip(SHARE.weights, inputs, strict=True))
    torch.testing.assert_close(cached[1].running_mean, 0.1 * mean)
    torch.testing.assert_close(cached[1].running_var, 0.9 + 0.1 * variance)


def test_the_graph_of_one_chunk_is_kept_at_a_time():
    model, graphs, kept = normalising_model(), [], []

    def embed(chunk: torch.Tensor) -> torch.Tensor:
        embeddings = model(chunk)
        if embeddings.requires_grad:
            graphs.append(weakref.ref(embeddings))
            kept.append(sum(graph() is not None for graph in graphs))
        return embeddings

    backward_in_chunks(model, embed, torch.randn(11, 6).double(), SHARE, spread)
    assert kept == [1, 1, 1]


def test_a_chunk_as_large_as_the_batch_gives_the_bits_of_no_chunks(tiny_corpus, tmp_path):
    plain, whole, chunked = (
        trained(settings_of(AP, chunk_crops=chunk), tiny_corpus, tmp_path / str(chunk))
        for chunk in (0, 12, 4)
    )
    assert_same(plain, whole)
    assert not torch.equal(plain["fc.weight"], chunked["fc.weight"])


@pytest.mark.parametrize("name", TRUNKS)
def test_no_trunk_draws_random_numbers_so_that_both_passes_are_alike(name):
    model = Embedder(name, {"embedding_dim": 8} | SMALL.get(name, {})).train()
    before = torch.get_rng_state()
    model(torch.zeros(2, 8000))
    assert torch.equal(before, torch.get_rng_state())
