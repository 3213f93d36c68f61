"""Gradient caching: the gradients of the whole batch from chunks of it."""

import pytest
import torch
from pair import largest, one_step, settings_of
from safetensors.torch import load_file
from test_losses import studied
from torch import nn

from studylib.losses import LOSSES
from studylib.models.embedder import Embedder
from studylib.models.trunks import TRUNKS
from studylib.training.gradient_caching import backward_in_chunks, in_chunks
from studylib.training.loop import train

AP = {"name": "angular_prototypical"}


@pytest.mark.parametrize("name", LOSSES)
def test_with_frozen_statistics_chunks_give_the_plain_gradients_for_every_loss(name):
    loss = {"name": name, **studied(name)}
    plain = one_step(settings_of(loss), frozen=True)
    cached = one_step(settings_of(loss, chunk_crops=5), frozen=True)
    assert plain.keys() == cached.keys()
    assert any(key.startswith("trunk.") and plain[key].abs().max() > 0 for key in plain)
    for key, value in plain.items():
        scale = largest(plain, key.split(".")[0])
        torch.testing.assert_close(cached[key] / scale, value / scale, rtol=0, atol=2e-5, msg=key)


def test_with_bfloat16_chunks_give_the_plain_gradients_to_its_rounding():
    plain = one_step(settings_of(AP, precision="bfloat16"), frozen=True)
    cached = one_step(settings_of(AP, precision="bfloat16", chunk_crops=5), frozen=True)
    for key in ("value", "trunk.fc.weight", "trunk.layers.0.weight"):
        scale = plain[key].abs().max()
        torch.testing.assert_close(cached[key] / scale, plain[key] / scale, rtol=0, atol=0.03)


def normalising_model() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 4), nn.BatchNorm1d(4)]
    return nn.Sequential(*layers).double()


def spread(embeddings: torch.Tensor) -> torch.Tensor:
    return torch.pdist(embeddings).log().mean()


def test_in_training_the_gradient_is_that_of_one_graph_over_separately_normalised_chunks():
    x = torch.randn(11, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chunks, shares = x.split([4, 4, 3]), [4 / 11, 4 / 11, 3 / 11]
    cached, whole = normalising_model(), normalising_model()
    value = backward_in_chunks(cached, cached, chunks, shares, torch.arange(11), 11, spread)
    expected = spread(torch.cat([whole(chunk) for chunk in chunks]))
    expected.backward()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    for ours, true in zip(cached.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, true.grad, rtol=1e-9, atol=1e-12)


def test_running_statistics_move_once_by_the_mean_of_the_chunks_moves():
    x = torch.randn(11, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    chunks, shares = x.split([4, 4, 3]), [4 / 11, 4 / 11, 3 / 11]
    model = normalising_model()
    with torch.no_grad():
        inputs = [model[0](chunk) for chunk in chunks]
    backward_in_chunks(model, model, chunks, shares, torch.arange(11), 11, spread)
    mean = torch.cat(inputs).mean(0)  # the mean of the batch: chunks count by their size
    variance = sum(s * i.var(0) for s, i in zip(shares, inputs, strict=True))
    torch.testing.assert_close(model[1].running_mean, 0.1 * mean)
    torch.testing.assert_close(model[1].running_var, 0.9 + 0.1 * variance)
    assert model[1].num_batches_tracked == 1
    assert model[1].track_running_stats


def test_what_the_trunk_keeps_for_the_backward_pass_depends_on_the_chunk_alone():
    def most_kept(batch: int) -> int:
        kept = most = 0

        class Kept:
            def __init__(self, value: torch.Tensor) -> None:
                nonlocal kept, most
                self.value, self.size = value, value.nbytes
                kept += self.size
                most = max(most, kept)

            def __del__(self) -> None:
                nonlocal kept
                kept -= self.size

        def embed(chunk: torch.Tensor) -> torch.Tensor:
            with torch.autograd.graph.saved_tensors_hooks(Kept, lambda item: item.value):
                return model(chunk)

        model = normalising_model()
        x = torch.randn(batch, 6, dtype=torch.float64)
        n = batch // 4
        backward_in_chunks(
            model, embed, x.split(4), [1 / n] * n, torch.arange(batch), batch, spread
        )
        return most

    assert 0 < most_kept(8) == most_kept(64)


def test_a_chunk_as_large_as_the_batch_gives_the_bits_of_no_chunks(tiny_corpus, tmp_path):
    def trained(name: str, chunk: int) -> dict[str, torch.Tensor]:
        keys = {"crop_seconds": 0.5, "threads": 1, "device": "cpu", "learning_rate": 0.01}
        settings = settings_of(AP, **(keys | {"crops": 60, "chunk_crops": chunk}))
        out = tmp_path / name
        train(settings, tiny_corpus, 0, out, checkpoints=tmp_path / "c", report=lambda line: None)
        return load_file(out / "model.safetensors")

    plain, whole, chunked = trained("plain", 0), trained("whole", 12), trained("chunked", 4)
    again = trained("again", 4)
    for key, value in plain.items():
        assert torch.equal(whole[key], value), key
        assert torch.equal(chunked[key], again[key]), key
    assert not torch.equal(plain["fc.weight"], chunked["fc.weight"])


@pytest.mark.parametrize(("total", "at_once"), [(12, 5), (12, 12), (12, 0), (400, 64), (7, 2)])
def test_chunks_cover_the_batch_and_none_is_much_smaller(total, at_once):
    chunks = in_chunks(total, at_once)
    assert [crop for chunk in chunks for crop in chunk] == list(range(total))
    sizes = [len(chunk) for chunk in chunks]
    assert max(sizes) <= (at_once or total)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("name", TRUNKS)
def test_no_trunk_draws_random_numbers_so_that_both_passes_are_alike(name):
    model = Embedder(name, {"embedding_dim": 8}).train()
    before = torch.get_rng_state()
    model(torch.zeros(2, 8000))
    assert torch.equal(before, torch.get_rng_state())
