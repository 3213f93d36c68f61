"""Faster and repeatable kernels: the same numbers up to rounding, and no step waits for its device.

Where there is no GPU, torch's meta device stands in for the question whether the host would wait:
its tensors have no values, and whatever needs one fails.
"""

import copy
from contextlib import nullcontext

import pytest
import torch
from pydantic import ValidationError
from test_losses import studied
from torch import nn
from training_runs import AP, CPU, SPEAKERS, M, N, assert_same, noise, settings_of, trained

from studylib.losses import LOSSES
from studylib.models.embedder import Embedder, embed, save_model
from studylib.training import acceleration
from studylib.training.acceleration import prepare_model, set_arithmetic
from studylib.training.learner import build_learner
from studylib.training.loop import TrainingStep
from studylib.training.settings import RunSettings

CUDA, META = torch.device("cuda"), torch.device("meta")


@pytest.fixture(autouse=True)
def usual_arithmetic():
    yield
    set_arithmetic(settings_of(AP).train, CPU)


# ---------------------------------------------------------------------------- determinism


def test_deterministic_changes_no_bits_on_a_cpu(tiny_corpus, tmp_path):
    plain = trained(settings_of(AP), tiny_corpus, tmp_path / "a")
    assert_same(plain, trained(settings_of(AP, deterministic=True), tiny_corpus, tmp_path / "b"))


def test_each_run_sets_the_switches_that_it_asks_for_and_no_others():
    for exact in (True, False):
        set_arithmetic(settings_of(AP, deterministic=exact).train, CUDA)
        assert torch.are_deterministic_algorithms_enabled() == exact
        assert torch.backends.cudnn.deterministic == exact
        assert torch.backends.cudnn.benchmark == (not exact)
    for precision, expected in (("tf32", "tf32"), ("float32", "ieee"), ("bfloat16", "ieee")):
        set_arithmetic(settings_of(AP, precision=precision).train, CUDA)
        assert torch.backends.cudnn.conv.fp32_precision == expected
        assert torch.backends.cuda.matmul.fp32_precision in ("none", "ieee")  # losses


def test_compiled_kernels_and_the_same_bits_every_time_exclude_each_other():
    with pytest.raises(ValidationError, match="deterministic: true needs compile: false"):
        settings_of(AP, deterministic=True, compile=True)


@pytest.mark.gpu
@pytest.mark.parametrize("trunk", ["compact_tdnn", "fast_resnet34", "vgg_m40"])
def test_on_a_gpu_a_deterministic_run_repeats_its_bits(tiny_corpus, tmp_path, trunk):
    keys = {"crop_seconds": 1.0, "device": "cuda", "deterministic": True, "crops": 120}
    settings = settings_of(AP, {"name": trunk}, precision="bfloat16", **keys)
    first = trained(settings, tiny_corpus, tmp_path / "a")
    assert_same(first, trained(settings, tiny_corpus, tmp_path / "b"))


# -------------------------------------------------------------------------------- kernels


@pytest.mark.parametrize("name", ["fast_resnet34", "vgg_m40"])
def test_channels_last_gives_the_same_embeddings_and_gradients_up_to_rounding(name, tmp_path):
    torch.manual_seed(0)
    models = [Embedder(name, {"embedding_dim": 16}).double().eval()]
    models.append(copy.deepcopy(models[0]))
    prepare_model(models[1], settings_of(AP).train)
    convolution = next(m for m in models[1].modules() if isinstance(m, nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    features = torch.randn(2, 40, 70, dtype=torch.float64)
    embeddings = [model.trunk(features) for model in models]
    torch.testing.assert_close(*embeddings, rtol=1e-9, atol=1e-12)
    for each in embeddings:
        each.square().sum().backward()
    for plain, other in zip(*(model.parameters() for model in models), strict=True):
        scale = plain.grad.abs().max().clamp_min(1e-9)
        assert (plain.grad - other.grad).abs().max() / scale < 1e-9
    saved = []
    for number, model in enumerate(models):
        save_model(model, tmp_path / f"{number}.safetensors", scoring="cosine")
        saved.append((tmp_path / f"{number}.safetensors").read_bytes())
    assert saved[0] == saved[1]


def test_a_compiled_run_learns_the_same_and_measures_uncompiled(monkeypatch, tiny_corpus):
    graphs = []

    def backend(graph, inputs):  # the tracing of the compiler, without its code generator
        graphs.append(graph)
        return graph.forward

    def loss_after(settings: RunSettings) -> float:
        learner = build_learner(settings, SPEAKERS, 0, CPU)
        step = TrainingStep(settings, learner, 0, CPU)
        return [step(noise(), torch.arange(N), number, 0.0) for number in range(3)][-1].item()

    monkeypatch.setattr(acceleration, "COMPILER", backend)
    torch.compiler.reset()
    expected = loss_after(settings_of(AP))
    assert not graphs
    assert loss_after(settings_of(AP, compile=True)) == pytest.approx(expected, rel=1e-4)
    assert graphs
    graphs.clear()
    model = build_learner(settings_of(AP, compile=True), SPEAKERS, 0, CPU).model
    plain = build_learner(settings_of(AP), SPEAKERS, 0, CPU).model
    assert model.state_dict().keys() == plain.state_dict().keys()
    keys = {"crops": 1, "crop_seconds": 0.6, "device": CPU}
    ours, theirs = (embed(m, tiny_corpus, [0, 1], **keys) for m in (model, plain))
    assert (ours == theirs).all()
    assert not graphs


# -------------------------------------------------------------------------------- waiting


@pytest.fixture
def no_autocast(monkeypatch):
    """The meta device has none, not even to be switched off."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def two_steps(settings: RunSettings, device: torch.device) -> None:
    learner = build_learner(settings, SPEAKERS, 0, device)
    step = TrainingStep(settings, learner, 0, device)
    samples = torch.zeros(N * M, 8000, dtype=torch.int16, device=device)
    labels = torch.arange(N, device=device)
    for number in range(2):
        step(samples, labels, number, 0.5)
        if device.type == "cuda":  # the first step may wait, for kernels to be chosen
            torch.cuda.set_sync_debug_mode("error")


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk", [0, 5])
def test_a_step_of_any_loss_looks_at_no_value_on_the_device(name, chunk, no_autocast):
    rate = {"initial": 0.1, "final": 0.01, "shape": "cosine"}
    settings = settings_of({"name": name, **studied(name)}, chunk_crops=chunk, learning_rate=rate)
    two_steps(settings, META)


def test_a_step_that_looks_at_a_value_is_found_out(monkeypatch, no_autocast):
    forward = LOSSES["angular_prototypical"].forward

    def looking(self, embeddings, labels):
        loss = forward(self, embeddings, labels)
        return loss if loss.item() > 0 else -loss

    monkeypatch.setattr(LOSSES["angular_prototypical"], "forward", looking)
    with pytest.raises(RuntimeError, match="meta tensors"):
        two_steps(settings_of(AP), META)


@pytest.mark.gpu
def test_on_a_gpu_a_step_never_waits_for_it():
    try:
        two_steps(settings_of(AP, precision="bfloat16"), CUDA)
    finally:
        torch.cuda.set_sync_debug_mode("default")
