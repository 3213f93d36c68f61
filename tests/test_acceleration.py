"""Faster and repeatable kernels: the same numbers up to rounding, and no step waits for its device.

Where there is no GPU, a fake one stands in for the question whether the host would wait: tensors
without values, on which whatever needs a value fails.
"""

import copy

import pytest
import torch
from pair import settings_of
from pydantic import ValidationError
from safetensors.torch import load_file
from test_losses import studied
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from studylib.corpora.store import Corpus
from studylib.losses import LOSSES, common
from studylib.models.embedder import Embedder, embed, load_model, save_model
from studylib.training import acceleration
from studylib.training.acceleration import in_channels_last, set_arithmetic
from studylib.training.learner import build_learner
from studylib.training.loop import train
from studylib.training.optimizers import Adam
from studylib.training.settings import RunSettings
from studylib.training.step import TrainingStep

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
AP = {"name": "angular_prototypical"}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(autouse=True)
def usual_arithmetic():
    yield
    set_arithmetic(settings_of(AP).train, CPU)


def trained(settings: RunSettings, corpus: Corpus, folder) -> dict[str, Tensor]:
    train(settings, corpus, 0, folder, checkpoints=folder / "c", report=lambda line: None)
    return load_file(folder / "model.safetensors")


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def loss_after(steps: int, settings: RunSettings) -> float:
    """The loss after some steps on one batch of noise."""
    learner = build_learner(settings, 9, 0, CPU)
    step = TrainingStep(settings, learner, 0, CPU)
    generator = torch.Generator().manual_seed(1)
    samples = torch.randint(-3000, 3000, (12, 8000), generator=generator).short()
    losses = [step(samples, torch.arange(6), number, 0.0) for number in range(steps + 1)]
    return losses[-1].item()


# ---------------------------------------------------------------------------- determinism


def test_deterministic_changes_no_bits_on_a_cpu(tiny_corpus, tmp_path):
    keys = {"crop_seconds": 0.5, "threads": 1, "device": "cpu", "learning_rate": 0.01, "crops": 60}
    plain = trained(settings_of(AP, **keys), tiny_corpus, tmp_path / "a")
    exact = trained(settings_of(AP, deterministic=True, **keys), tiny_corpus, tmp_path / "b")
    assert_same(plain, exact)


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


@needs_cuda
@pytest.mark.parametrize("trunk", ["compact_tdnn", "fast_resnet34", "vgg_m40"])
def test_on_a_gpu_a_deterministic_run_repeats_its_bits(tiny_corpus, tmp_path, trunk):
    keys = {"crop_seconds": 1.0, "device": "cuda", "deterministic": True, "crops": 120}
    settings = settings_of(AP, {"name": trunk}, precision="bfloat16", **keys)
    first = trained(settings, tiny_corpus, tmp_path / "a")
    assert_same(first, trained(settings, tiny_corpus, tmp_path / "b"))


# -------------------------------------------------------------------------------- kernels


@pytest.mark.parametrize("name", ["fast_resnet34", "vgg_m40"])
def test_channels_last_gives_the_same_embeddings_and_gradients_up_to_rounding(name):
    torch.manual_seed(0)
    plain = Embedder(name).trunk.eval()
    other = copy.deepcopy(plain)
    in_channels_last(other)
    convolution = next(m for m in other.modules() if isinstance(m, nn.Conv2d))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    features = torch.randn(2, 40, 70)
    embeddings = [trunk(features) for trunk in (plain, other)]
    torch.testing.assert_close(*embeddings, rtol=1e-4, atol=1e-4 * embeddings[0].abs().max().item())
    for each in embeddings:
        each.square().sum().backward()
    theirs = dict(other.named_parameters())
    for key, parameter in plain.named_parameters():
        scale = parameter.grad.abs().max().clamp_min(1e-9)
        assert (parameter.grad - theirs[key].grad).abs().max() / scale < 1e-3, key


def test_a_saved_model_has_no_layout(tmp_path):
    torch.manual_seed(0)
    model = Embedder("fast_resnet34", {"width": 8})
    save_model(model, tmp_path / "plain.safetensors", scoring="cosine")
    in_channels_last(model)
    save_model(model, tmp_path / "other.safetensors", scoring="cosine")
    plain, other = (load_model(tmp_path / f"{name}.safetensors")[0] for name in ("plain", "other"))
    assert_same(plain.state_dict(), other.state_dict())
    strides = [m.weight.stride() for m in plain.modules() if isinstance(m, nn.Conv2d)]
    assert strides == [m.weight.stride() for m in other.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_fused_optimizer_learns_the_same_up_to_rounding(optimizer):
    keys = {"optimizer": optimizer, "learning_rate": 0.01, "momentum": 0.5, "weight_decay": 1e-4}
    expected = loss_after(4, settings_of(AP, **keys))
    fused = settings_of(AP, fused_optimizer=True, **keys)
    assert build_learner(fused, 9, 0, CPU).optimizer.fused
    assert loss_after(4, fused) == pytest.approx(expected, rel=1e-4)


def test_a_compiled_run_learns_the_same_and_measures_uncompiled(monkeypatch, tiny_corpus):
    # The tracing of the compiler without its code generator, which takes minutes.
    monkeypatch.setattr(acceleration, "COMPILER", "aot_eager")
    settings = settings_of(AP, compile=True, learning_rate=0.01)
    expected = loss_after(2, settings_of(AP, learning_rate=0.01))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert loss_after(2, settings) == pytest.approx(expected, rel=1e-4)
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled > 0
    model = build_learner(settings, 9, 0, CPU).model
    plain = build_learner(settings_of(AP), 9, 0, CPU).model
    assert model.state_dict().keys() == plain.state_dict().keys()
    keys = {"crops": 1, "crop_seconds": 0.6, "device": CPU}
    ours, theirs = (embed(m, tiny_corpus, [0, 1], **keys) for m in (model, plain))
    assert (ours == theirs).all()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


# -------------------------------------------------------------------------------- waiting


def fake_step(settings: RunSettings, monkeypatch) -> None:
    """Two steps without values; labels, which losses look at on a CPU alone, are not looked at."""
    monkeypatch.setattr(common, "check_batch", lambda *batch: None)
    learner = build_learner(settings, 9, 0, CPU)
    step = TrainingStep(settings, learner, 0, CPU)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        for module in (learner.model, learner.criterion):
            without_values(module)
        parameters = [*learner.model.parameters(), *learner.criterion.parameters()]
        learner.optimizer = Adam(parameters, weight_decay=0.0, fused=None)
        samples = torch.empty(12, 8000, dtype=torch.int16)
        labels = torch.empty(6, dtype=torch.int64)
        for number in range(2):
            step(samples, labels, number, 0.5)


def without_values(module: nn.Module) -> None:
    """Replace, inside a fake mode, all weights and buffers."""
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(torch.empty(weight.shape))
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("chunk", [0, 5])
def test_a_step_of_any_loss_looks_at_no_value_on_the_device(name, chunk, monkeypatch):
    numbers = studied(name) | ({"seed": 0} if name == "triplet" else {})
    rate = {"initial": 0.1, "final": 0.01, "shape": "cosine"}
    keys = {"chunk_crops": chunk, "learning_rate": rate, "precision": "bfloat16"}
    fake_step(settings_of({"name": name, **numbers}, **keys), monkeypatch)


def test_a_step_that_looks_at_a_value_is_found_out(monkeypatch):
    forward = LOSSES["angular_prototypical"].forward

    def looking(self, embeddings, labels):
        loss = forward(self, embeddings, labels)
        return loss if loss.item() > 0 else -loss

    monkeypatch.setattr(LOSSES["angular_prototypical"], "forward", looking)
    with pytest.raises(DataDependentOutputException):
        fake_step(settings_of(AP), monkeypatch)


@needs_cuda
def test_on_a_gpu_a_step_never_waits_for_it(tiny_corpus):
    settings = settings_of(AP, precision="bfloat16", optimizer="adam")
    learner = build_learner(settings, 9, 0, CUDA)
    step = TrainingStep(settings, learner, 0, CUDA)
    samples = torch.zeros(12, 8000, dtype=torch.int16, device="cuda")
    labels = torch.arange(6, device="cuda")
    step(samples, labels, 0, 0.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(samples, labels, 1, 0.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
