"""Checkpoints under the authors' names: what lands where, and that it computes the same."""

import pytest
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from studylib.cli import app
from studylib.errors import StudyError
from studylib.models.embedder import load_model
from studylib.models.trunks import TRUNKS
from studylib.models.voxceleb_trainer import load_voxceleb_trainer

Tensors = dict[str, Tensor]


def values(*shape: int) -> Tensor:
    """Positive and small, so that variances are good ones and no layer blows up."""
    return 0.1 * torch.rand(*shape) + 0.05


def convolution(name: str, *shape: int, bias: bool = False) -> Tensors:
    weight = torch.randn(*shape) / shape[1] ** 0.5 / (shape[2] * shape[3]) ** 0.5
    return {f"{name}.weight": weight} | ({f"{name}.bias": values(shape[0])} if bias else {})


def batch_norm(name: str, n: int) -> Tensors:
    keys = ("weight", "bias", "running_mean", "running_var")
    state = {f"{name}.{key}": values(n) for key in keys}
    return state | {f"{name}.num_batches_tracked": torch.tensor(7)}


def linear(name: str, n_out: int, n_in: int) -> Tensors:
    return {f"{name}.weight": torch.randn(n_out, n_in) / n_in**0.5, f"{name}.bias": values(n_out)}


def self_attention(n: int) -> Tensors:
    return linear("sap_linear", n, n) | {"attention": values(n, 1)}


def their_resnet(embedding_dim: int = 512) -> Tensors:
    """ResNetSE34L as their code names it."""
    state = convolution("conv1", 16, 1, 7, 7) | batch_norm("bn1", 16)
    n_in = 16
    for layer, (n, blocks) in enumerate(((16, 3), (32, 4), (64, 6), (128, 3)), start=1):
        for i in range(blocks):
            block = f"layer{layer}.{i}"
            state |= convolution(f"{block}.conv1", n, n_in, 3, 3) | batch_norm(f"{block}.bn1", n)
            state |= convolution(f"{block}.conv2", n, n, 3, 3) | batch_norm(f"{block}.bn2", n)
            state |= linear(f"{block}.se.fc.0", n // 8, n) | linear(f"{block}.se.fc.2", n, n // 8)
            if n_in != n:
                state |= convolution(f"{block}.downsample.0", n, n_in, 1, 1)
                state |= batch_norm(f"{block}.downsample.1", n)
            n_in = n
    state |= self_attention(128) | linear("fc", embedding_dim, 128)
    state["torchfb.spectrogram.window"] = torch.hamming_window(400)
    filters = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 40, 16_000)
    state["torchfb.mel_scale.fb"] = filters
    return state


def their_vgg() -> Tensors:
    """VGGVox as their code names it."""
    state = {}
    layers = ((0, (96, 1, 5, 7)), (4, (256, 96, 5, 5)), (8, (384, 256, 3, 3)))
    layers += ((11, (256, 384, 3, 3)), (14, (256, 256, 3, 3)), (18, (512, 256, 4, 1)))
    for i, shape in layers:
        state |= convolution(f"netcnn.{i}", *shape, bias=True)
        state |= batch_norm(f"netcnn.{i + 1}", shape[0])
    state["torchfb.spectrogram.window"] = torch.hann_window(400)
    return state | self_attention(512) | linear("fc", 512, 512)


# ------------------------------------------- their networks, computed from their names alone


def normalised(x: Tensor, state: Tensors, name: str) -> Tensor:
    w, b, m, v = (
        state[f"{name}.{key}"].view(-1, 1, 1)
        for key in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - m) / (v + 1e-5).sqrt() * w + b


def attended(x: Tensor, state: Tensors) -> Tensor:
    """(B, C, T) -> (B, C)."""
    x = x.transpose(1, 2)
    scores = torch.tanh(F.linear(x, state["sap_linear.weight"], state["sap_linear.bias"]))
    weights = torch.softmax(scores @ state["attention"], dim=1)
    return (weights * x).sum(1)


def run_their_resnet(x: Tensor, state: Tensors) -> Tensor:
    x = F.conv2d(x.unsqueeze(1), state["conv1.weight"], stride=(2, 1), padding=3)
    x = normalised(x, state, "bn1").relu()
    for layer, blocks, stride in ((1, 3, 1), (2, 4, 2), (3, 6, 2), (4, 3, 1)):
        for i in range(blocks):
            block, step = f"layer{layer}.{i}", stride if i == 0 else 1
            y = F.conv2d(x, state[f"{block}.conv1.weight"], stride=step, padding=1).relu()
            y = normalised(y, state, f"{block}.bn1")
            y = F.conv2d(y, state[f"{block}.conv2.weight"], padding=1)
            y = normalised(y, state, f"{block}.bn2")
            gate = y.mean((2, 3))
            for number, activation in ((0, torch.relu), (2, torch.sigmoid)):
                fc = f"{block}.se.fc.{number}"
                gate = activation(F.linear(gate, state[f"{fc}.weight"], state[f"{fc}.bias"]))
            if f"{block}.downsample.0.weight" in state:
                x = F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=step)
                x = normalised(x, state, f"{block}.downsample.1")
            x = (y * gate[:, :, None, None] + x).relu()
    return F.linear(attended(x.mean(2), state), state["fc.weight"], state["fc.bias"])


def run_their_vgg(x: Tensor, state: Tensors) -> Tensor:
    x = x.unsqueeze(1)
    geometry = {0: ((1, 2), 2), 4: (2, 1), 8: (1, 1), 11: (1, 1), 14: (1, 1), 18: (1, 0)}
    pools = {0: ((1, 3), (1, 2)), 4: (3, 2), 14: (3, 2)}
    for i, (stride, padding) in geometry.items():
        x = F.conv2d(x, state[f"netcnn.{i}.weight"], state[f"netcnn.{i}.bias"], stride, padding)
        x = normalised(x, state, f"netcnn.{i + 1}").relu()
        if i in pools:
            x = F.max_pool2d(x, *pools[i])
    return F.linear(attended(x.squeeze(2), state), state["fc.weight"], state["fc.bias"])


def standardised(features: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over time, with the 1e-5 that torch's InstanceNorm1d adds."""
    variance = features.var(2, correction=0, keepdim=True)
    return (features - features.mean(2, keepdim=True)) / (variance + 1e-5).sqrt()


# ----------------------------------------------------------------------------------- tests


@pytest.mark.parametrize(
    ("name", "theirs", "run", "prefix", "wrapper"),
    [
        ("fast_resnet34", their_resnet, run_their_resnet, "__S__.", "model_state_dict"),
        ("fast_resnet34", their_resnet, run_their_resnet, "module.__S__.", "model"),
        ("vgg_m40", their_vgg, run_their_vgg, "", None),
    ],
)
def test_an_imported_model_computes_what_their_network_computes(
    name, theirs, run, prefix, wrapper, tmp_path
):
    torch.manual_seed(0)
    state = theirs()
    content = {prefix + key: value for key, value in state.items()} | {"__L__.w": torch.ones(1)}
    saved = {wrapper: content, "optimizer_state_dict": {"state": {}}} if wrapper else content
    torch.save(saved, tmp_path / "their.model")
    files = [str(tmp_path / name) for name in ("their.model", "ours.safetensors")]
    report = CliRunner().invoke(app, ["import", *files, "--trunk", name]).output.splitlines()
    left = {line.split()[1].removeprefix(prefix) for line in report if line.startswith("left")}
    assert left == {"__L__.w", *(key for key in state if key.startswith("torchfb"))}
    model, scoring = load_model(tmp_path / "ours.safetensors")
    assert scoring == "cosine"
    features = torch.randn(2, 40, 90).double()
    with torch.no_grad():
        expected = run(standardised(features), {key: w.double() for key, w in state.items()})
        torch.testing.assert_close(model.trunk.double()(features), expected, atol=1e-9, rtol=1e-9)


def test_the_report_names_what_may_differ_in_their_features(tmp_path):
    state = their_vgg() | {"torchfb.0.flipped_filter": torch.tensor([[[-0.97, 1.0]]])}
    torch.save(state, tmp_path / "vgg.model")
    report = load_voxceleb_trainer(tmp_path / "vgg.model", TRUNKS["vgg_m40"](pooling="sap"))
    notes = [line for line in report if line.startswith("note")]
    for words in ("torchfb.spectrogram.window: ", "flipped_filter: ", "--log_input True"):
        assert sum(words in note for note in notes) == 1


class NotATensor:
    """Something that only an unpickler could bring back."""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: None, "does not exist"),
        (lambda: {"conv1.weight": NotATensor()}, "not a readable checkpoint of tensors alone$"),
        (lambda: {"epoch": 3}, "no state dict"),
        (lambda: their_resnet(embedding_dim=256), r"fc.weight has shape \(256, 128\).*\(512, 128"),
        (lambda: their_vgg(), "weights are missing"),
        (lambda: their_resnet() | {"torchfb.mel_scale.fb": torch.ones(257, 64)}, "64 filters that"),
    ],
)
def test_what_is_no_fitting_checkpoint_is_refused_and_changes_nothing(content, words, tmp_path):
    if (saved := content()) is not None:
        torch.save(saved, tmp_path / "other.model")
    trunk = TRUNKS["fast_resnet34"]()
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    with pytest.raises(StudyError, match=words):
        load_voxceleb_trainer(tmp_path / "other.model", trunk)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())
