"""Faster and repeatable kernels: the same numbers up to rounding, and no step waits for its device.

Where there is no GPU, torch's meta device stands in for the question whether the host would wait:
its tensors have no values, and whatever needs one fails.
"""

from contextlib import nullcontext

import pytest
import torch
from test_losses import studied
from torch import nn
from training_runs import AP, CPU, SPEAKERS, M, N, assert_same, noise, settings_of, trained

from studylib.losses import LOSSES
from studylib.models.embedder import Embedder, embed, save_model
from studylib.training import learner
from studylib.training.learner import build_learner, prepare_model
from studylib.training.loop import TrainingStep

CUDA, META = torch.device("cuda"), torch.device("meta")


@pytest.mark.gpu
@pytest.mark.parametrize("trunk", ["compact_tdnn", "fast_resnet34", "vgg_m40"])
def test_on_a_gpu_a_deterministic_run_repeats_its_bits(tiny_corpus, tmp_path, trunk):
    keys = {"crop_seconds": 1.0, "device": "cuda", "deterministic": True, "crops": 120}
    settings = settings_of(AP, {"name": trunk}, precision="bfloat16", **keys)
    first = trained(settings, tiny_corpus, tmp_path / "a")
    assert_same(first, trained(settings, tiny_corpus, tmp_path / "b"))


def test_channels_last_changes_no_byte_of_a_model_s_file(tmp_path):
    model = Embedder("fast_resnet34", {"embedding_dim": 16})
    save_model(model, tmp_path / "plain", scoring="cosine")
    prepare_model(model, settings_of(AP).train)
    convolution = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    save_model(model, tmp_path / "other", scoring="cosine")
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_compiled_run_learns_the_same_and_measures_uncompiled(monkeypatch, tiny_corpus):
    graphs = []

    def backend(graph, inputs):  # the tracing of the compiler, without its code generator
        graphs.append(graph)
        return graph.forward

    def loss_after(settings):
        made = build_learner(settings, SPEAKERS, 0, CPU)
        step = TrainingStep(settings, made, 0, CPU)
        return [step(noise(), torch.arange(N), 0, 0.0) for _ in range(2)][-1], made.model

    monkeypatch.setattr(learner, "COMPILER", backend)
    torch.compiler.reset()
    expected, _ = loss_after(settings_of(AP))
    assert not graphs
    loss, model = loss_after(settings_of(AP, compile=True))
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=0)
    assert graphs
    graphs.clear()
    embed(model, tiny_corpus, [0, 1], crops=1, crop_seconds=0.6, device=CPU)
    assert not graphs


def two_steps(settings, device: torch.device) -> None:
    step = TrainingStep(settings, build_learner(settings, SPEAKERS, 0, device), 0, device)
    samples = torch.zeros(N * M, 8000, dtype=torch.int16, device=device)
    labels = torch.arange(N, device=device)
    for number in range(2):
        step(samples, labels, number, 0.5)
        if device.type == "cuda":  # the first step may wait, for kernels to be chosen
            torch.cuda.set_sync_debug_mode("error")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk", [0, 5])
def test_a_step_of_any_loss_looks_at_no_value_on_the_device(name, chunk, monkeypatch):
    # The meta device has no autocast, not even to be switched off.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    rate = {"initial": 0.1, "final": 0.01, "shape": "cosine"}
    settings = settings_of({"name": name, **studied(name)}, chunk_crops=chunk, learning_rate=rate)
    two_steps(settings, META)


@pytest.mark.gpu
def test_on_a_gpu_a_step_never_waits_for_it():
    try:
        two_steps(settings_of(AP, precision="bfloat16"), CUDA)
    finally:
        torch.cuda.set_sync_debug_mode("default")
