"""Checkpoints under the authors' names: what lands where, and that it computes the same."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchaudio
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from studylib.cli import app
from studylib.errors import StudyError
from studylib.models.embedder import load_model
from studylib.models.voxceleb_trainer import import_voxceleb_trainer

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


def their_blocks(width: int) -> Tensors:
    """The four stages that all of their ResNets have."""
    state, n_in = {}, width
    for layer, (n, blocks) in enumerate(((1, 3), (2, 4), (4, 6), (8, 3)), start=1):
        n *= width
        for i in range(blocks):
            block = f"layer{layer}.{i}"
            state |= convolution(f"{block}.conv1", n, n_in, 3, 3) | batch_norm(f"{block}.bn1", n)
            state |= convolution(f"{block}.conv2", n, n, 3, 3) | batch_norm(f"{block}.bn2", n)
            state |= linear(f"{block}.se.fc.0", n // 8, n) | linear(f"{block}.se.fc.2", n, n // 8)
            if n_in != n:
                state |= convolution(f"{block}.downsample.0", n, n_in, 1, 1)
                state |= batch_norm(f"{block}.downsample.1", n)
            n_in = n
    return state


def their_filters(mels: int, name: str = "torchfb") -> Tensors:
    filters = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, mels, 16_000)
    window = torch.hamming_window(400)
    return {f"{name}.spectrogram.window": window, f"{name}.mel_scale.fb": filters}


def their_thin(width: int = 16, pooled: int = 1) -> Tensors:
    """ResNetSE34 as their code names it: no constants of features."""
    state = convolution("conv1", width, 1, 7, 7) | batch_norm("bn1", width) | their_blocks(width)
    return state | self_attention(8 * width) | linear("fc", 512, pooled * 8 * width)


def their_fast(mels: int = 40, width: int = 16, pooled: int = 1) -> Tensors:
    """ResNetSE34L as their code names it; pooled 2 is ASP."""
    return their_thin(width, pooled) | their_filters(mels)


def their_half(mels: int = 64) -> Tensors:
    """ResNetSE34V2 as their code names it."""
    state = convolution("conv1", 32, 1, 3, 3, bias=True) | batch_norm("bn1", 32) | their_blocks(32)
    for i, n_out, n_in in ((0, 128, 32 * mels), (3, 32 * mels, 128)):
        state |= linear(f"attention.{i}", n_out, n_in)
        state[f"attention.{i}.weight"] = state[f"attention.{i}.weight"].unsqueeze(2)
    state |= batch_norm("attention.2", 128) | linear("fc", 512, 64 * mels)
    state["torchfb.0.flipped_filter"] = torch.tensor([[[-0.97, 1.0]]])
    return state | their_filters(mels, "torchfb.1")


def their_vgg(sap: bool = True) -> Tensors:
    """VGGVox as their code names it."""
    state = {}
    layers = ((0, (96, 1, 5, 7)), (4, (256, 96, 5, 5)), (8, (384, 256, 3, 3)))
    layers += ((11, (256, 384, 3, 3)), (14, (256, 256, 3, 3)), (18, (512, 256, 4, 1)))
    for i, shape in layers:
        state |= convolution(f"netcnn.{i}", *shape, bias=True)
        state |= batch_norm(f"netcnn.{i + 1}", shape[0])
    state |= their_filters(40) | {"torchfb.spectrogram.window": torch.hann_window(400)}
    return state | linear("fc", 512, 512) | (self_attention(512) if sap else {})


# ------------------------------------------- their networks, computed from their names alone


def normalised(x: Tensor, state: Tensors, name: str) -> Tensor:
    w, b, m, v = (
        state[f"{name}.{key}"].view(-1, 1, 1)
        for key in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - m) / (v + 1e-5).sqrt() * w + b


def attended(x: Tensor, state: Tensors) -> Tensor:
    """(B, C, T) -> (B, C) or, if their fc takes as many, (B, 2 C)."""
    hidden = torch.tanh(linear_of(x.transpose(1, 2), state, "sap_linear"))
    return weighted(x, torch.softmax(hidden @ state["attention"], dim=1).transpose(1, 2), state)


def weighted(x: Tensor, weights: Tensor, state: Tensors) -> Tensor:
    mean = (weights * x).sum(2)
    if state["fc.weight"].shape[1] == x.shape[1]:
        return mean
    deviation = ((weights * x**2).sum(2) - mean**2).clamp(min=1e-5).sqrt()
    return torch.cat([mean, deviation], 1)


def linear_of(x: Tensor, state: Tensors, name: str) -> Tensor:
    return x @ state[f"{name}.weight"].squeeze(-1).T + state[f"{name}.bias"]


def run_their_blocks(x: Tensor, state: Tensors, last_stride: int) -> Tensor:
    for layer, blocks, stride in ((1, 3, 1), (2, 4, 2), (3, 6, 2), (4, 3, last_stride)):
        for i in range(blocks):
            block, step = f"layer{layer}.{i}", stride if i == 0 else 1
            y = F.conv2d(x, state[f"{block}.conv1.weight"], stride=step, padding=1).relu()
            y = normalised(y, state, f"{block}.bn1")
            y = F.conv2d(y, state[f"{block}.conv2.weight"], padding=1)
            y = normalised(y, state, f"{block}.bn2")
            gate = linear_of(y.mean((2, 3)), state, f"{block}.se.fc.0").relu()
            gate = linear_of(gate, state, f"{block}.se.fc.2").sigmoid()
            if f"{block}.downsample.0.weight" in state:
                x = F.conv2d(x, state[f"{block}.downsample.0.weight"], stride=step)
                x = normalised(x, state, f"{block}.downsample.1")
            x = (y * gate[:, :, None, None] + x).relu()
    return x


def run_their_fast(x: Tensor, state: Tensors, thin: bool = False) -> Tensor:
    x = F.conv2d(x.unsqueeze(1), state["conv1.weight"], stride=(2, 1), padding=3)
    x = normalised(x, state, "bn1").relu()
    if thin:
        x = F.max_pool2d(x, 3, (2, 1), 1)
    x = run_their_blocks(x, state, last_stride=2 if thin else 1)
    return linear_of(attended(x.mean(2), state), state, "fc")


def run_their_half(x: Tensor, state: Tensors) -> Tensor:
    x = F.conv2d(x.unsqueeze(1), state["conv1.weight"], state["conv1.bias"], padding=1).relu()
    x = run_their_blocks(normalised(x, state, "bn1"), state, last_stride=2).flatten(1, 2)
    hidden = linear_of(x.transpose(1, 2), state, "attention.0").relu().transpose(1, 2)
    hidden = normalised(hidden.unsqueeze(3), state, "attention.2").squeeze(3).transpose(1, 2)
    scores = linear_of(hidden, state, "attention.3").transpose(1, 2)
    return linear_of(weighted(x, scores.softmax(2), state), state, "fc")


def run_their_vgg(x: Tensor, state: Tensors) -> Tensor:
    x = x.unsqueeze(1)
    geometry = {0: ((1, 2), 2), 4: (2, 1), 8: (1, 1), 11: (1, 1), 14: (1, 1), 18: (1, 0)}
    pools = {0: ((1, 3), (1, 2)), 4: (3, 2), 14: (3, 2)}
    for i, (stride, padding) in geometry.items():
        x = F.conv2d(x, state[f"netcnn.{i}.weight"], state[f"netcnn.{i}.bias"], stride, padding)
        x = normalised(x, state, f"netcnn.{i + 1}").relu()
        if i in pools:
            x = F.max_pool2d(x, *pools[i])
    return linear_of(attended(x.squeeze(2), state), state, "fc")


def their_mel(samples: Tensor, state: Tensors, log: bool) -> Tensor:
    """Their features: torchaudio's transform, after pre-emphasis where the file has its filter."""
    if "torchfb.0.flipped_filter" in state:
        padded = F.pad(samples, (1, 0), "reflect")
        samples = padded[:, 1:] - 0.97 * padded[:, :-1]
    (mels,) = (value.shape[1] for key, value in state.items() if key.endswith("fb"))
    (window,) = (value for key, value in state.items() if key.endswith("window"))
    frames = {"n_fft": 512, "win_length": 400, "hop_length": 160}
    mel = torchaudio.transforms.MelSpectrogram(16_000, n_mels=mels, **frames)
    mel.spectrogram.window = window
    mel = mel.double()(samples) + 1e-6
    return mel.log() if log else mel


def their_magnitude(samples: Tensor, state: Tensors, log: bool) -> Tensor:
    window = torch.hann_window(400).double()
    return torch.stft(samples, 512, 160, 400, window, center=False, return_complex=True).abs()


def standardised(features: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over time, with the 1e-5 that torch's InstanceNorm1d adds."""
    variance = features.var(2, correction=0, keepdim=True)
    return (features - features.mean(2, keepdim=True)) / (variance + 1e-5).sqrt()


# ----------------------------------------------------------------------------------- tests


FAST, THIN, HALF, VGG = (
    (their_fast, run_their_fast),
    (their_thin, partial(run_their_fast, thin=True)),
    (their_half, run_their_half),
    (their_vgg, run_their_vgg),
)
RELEASED = [  # trunk, names, network, options, wrapper of names, of the state
    ("fast_resnet34", *FAST, "--log-input", "__S__.", "model_state_dict"),
    ("fast_resnet34", partial(their_fast, 64, 32, 2), run_their_fast, "--log-input", "", None),
    ("fast_resnet34", *FAST, "--no-log-input", "module.__S__.", "model"),
    ("thin_resnet34", *THIN, "--no-log-input --window hann", "", None),
    ("half_resnet34", *HALF, "--log-input", "__S__.", None),
    ("vgg_m40", *VGG, "--log-input --window hann", "__S__.", None),
]


@pytest.mark.parametrize(("trunk", "theirs", "run", "options", "prefix", "wrapper"), RELEASED)
def test_an_imported_model_embeds_samples_as_their_network_and_features_do(
    trunk, theirs, run, options, prefix, wrapper, tmp_path
):
    torch.manual_seed(0)
    state = theirs()
    content = {prefix + key: value for key, value in state.items()} | {"__L__.w": torch.ones(1)}
    saved = {wrapper: content, "optimizer_state_dict": {"state": {}}} if wrapper else content
    torch.save(saved, tmp_path / "their.model")
    files = [str(tmp_path / name) for name in ("their.model", "ours.safetensors")]
    arguments = ["import", *files, "--trunk", trunk, *options.split()]
    report = CliRunner().invoke(app, arguments, catch_exceptions=False).output.splitlines()
    left = {line.split()[1].removeprefix(prefix) for line in report if line.startswith("left")}
    assert left == {"__L__.w", *(key for key in state if key.startswith("torchfb"))}
    model, scoring = load_model(tmp_path / "ours.safetensors")
    assert scoring == "cosine"
    samples = 0.1 * torch.randn(2, 12_000).double()
    state = {key: value.double() for key, value in state.items()}
    features = their_magnitude if trunk == "thin_resnet34" else their_mel
    expected = run(standardised(features(samples, state, "--log-input" in options)), state)
    with torch.no_grad():
        # Their filters and windows are rounded to float32.
        torch.testing.assert_close(model.double()(samples), expected, atol=1e-4, rtol=1e-4)


class NotATensor:
    """Something that only an unpickler could bring back."""


def without(state: Tensors, ending: str) -> Tensors:
    return {key: value for key, value in state.items() if not key.endswith(ending)}


def fast_with(key: str, *shape: int) -> Callable[[], Tensors]:
    return lambda: their_fast() | {key: torch.ones(*shape)}


LOG = {"log": True}
FAST_LOG = "fast_resnet34", LOG


@pytest.mark.parametrize(
    ("content", "trunk", "answers", "words"),
    [
        (lambda: None, *FAST_LOG, "does not exist"),
        (lambda: {"fc.weight": NotATensor()}, *FAST_LOG, "not a readable checkpoint"),
        (lambda: {"epoch": 3}, *FAST_LOG, "no state dict"),
        (their_fast, "xvector", LOG, "--trunk xvector: expected one of fast_resnet34, thin_"),
        (their_fast, "half_resnet34", LOG, "no attention.0.weight as ResNetSE34V2 has"),
        (their_vgg, *FAST_LOG, "netcnn.0.weight is no weight of ResNetSE34L"),
        (their_fast, "fast_resnet34", {}, "tell its log: say --log-input or --no-log-input"),
        (their_thin, *FAST_LOG, "tell its window: say --window hamming or hann"),
        (their_thin, "thin_resnet34", LOG | {"window": "hann"}, "log cannot be both False and Tr"),
        (lambda: without(their_fast(), "fb"), *FAST_LOG, "tell its mels: say --mels"),
        (lambda: their_vgg() | their_filters(64), "vgg_m40", LOG, "cannot be both 40 and 64"),
        (lambda: their_vgg(sap=False), "vgg_m40", LOG, "tell its pooling: say --pooling tap if"),
        (fast_with("torchfb.mel_scale.fb", 257, 64), *FAST_LOG, "other filters than 64 from 0"),
        (fast_with("torchfb.0.flipped_filter", 2), *FAST_LOG, "pre-emphasis, which fast_resnet34"),
    ],
)
def test_what_is_no_fitting_checkpoint_or_not_wholly_told_is_refused(
    content, trunk, answers, words, tmp_path
):
    if (saved := content()) is not None:
        torch.save(saved, tmp_path / "other.model")
    with pytest.raises(StudyError, match=words):
        import_voxceleb_trainer(tmp_path / "other.model", trunk, answers)
