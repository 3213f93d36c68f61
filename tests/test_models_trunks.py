"""Trunks: sizes and shapes of the papers, closed forms, and what every trunk must do."""

import numpy as np
import pytest
import torch
from made_up import SMALL
from torch import nn
from torch.nn import functional as F

from studylib.errors import StudyError
from studylib.models.ecapa_tdnn import ChannelAttentiveStatistics, Res2
from studylib.models.embedder import Embedder
from studylib.models.features import make_features
from studylib.models.pooling import POOLINGS
from studylib.models.sinc_xvector import SincConv
from studylib.models.trunk_table import TWO_SECONDS, frames_before_pooling, trunk_sizes
from studylib.models.trunks import TRUNKS

T = 202  # frames of log-mel in paper B's crop of 2 s and 240 samples
XVECTOR_PRODUCTS = 30 * 5 * 512 * (T - 4) + 512 * 3 * 512 * (T - 8 + T - 14)
XVECTOR_PRODUCTS += (512 * 512 + 512 * 1500) * (T - 14) + 3000 * 512
# Half ResNet-34: kernels of each stage times its rows and frames, gates, attention, embedding.
HALF_PRODUCTS = 9 * 32 * 64 * T + 2 * 2048 * 128 * 26 + 4096 * 512
for n, n_in, blocks, area in (
    (32, 32, 3, 64 * T),
    (64, 32, 4, 32 * 101),
    (128, 64, 6, 16 * 51),
    (256, 128, 3, 8 * 26),
):
    kernels = 9 * n_in * n + 9 * n * n * (2 * blocks - 1) + (n_in != n) * n_in * n
    HALF_PRODUCTS += area * kernels + blocks * n * n // 4
SIZES = [  # trunk, parameters, million multiply-adds (paper B as measured), frames
    ("fast_resnet34", 1_437_078, pytest.approx(451, rel=0.01), (128, 51)),
    ("thin_resnet34", 1_437_078, pytest.approx(982, rel=0.01), (128, 25)),
    ("vgg_m40", 3_769_280, pytest.approx(533, rel=0.01), (512, 5)),
    ("half_resnet34", 8_028_492, HALF_PRODUCTS / 1e6, (2048, 26)),
    ("xvector", pytest.approx(4.2e6, rel=0.01), XVECTOR_PRODUCTS / 1e6, (1500, T - 14)),
]


def features_of(trunk: nn.Module, waveform: torch.Tensor) -> torch.Tensor:
    return make_features(trunk)(waveform)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(name: str, **arguments) -> nn.Module:
    torch.manual_seed(0)
    return TRUNKS[name](**arguments)


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_the_compact_tdnn_hears_the_level_of_pitch_but_not_of_log_mel():
    trunk, features = built("compact_tdnn", pitch=True).eval(), noise(2, 88, 100)
    mel, pitch = torch.zeros(88, 1), torch.zeros(88, 1)
    mel[:40], pitch[40:] = 3, 3
    torch.testing.assert_close(trunk(features + mel), trunk(features), atol=1e-5, rtol=1e-5)
    assert (trunk(features + pitch) - trunk(features)).abs().min() > 1e-5


@pytest.mark.parametrize(("name", "parameters", "multiply_adds", "frames"), SIZES)
def test_a_trunk_has_its_size_cost_and_frames(name, parameters, multiply_adds, frames):
    trunk = built(name).eval()
    features = features_of(trunk, noise(1, TWO_SECONDS))
    assert n_parameters(trunk) == parameters
    assert frames_before_pooling(trunk, features).shape == (1, *frames)
    assert trunk_sizes(name)["multiply_adds"] / 1e6 == multiply_adds


def test_sinc_xvector_has_the_size_and_the_frames_of_paper_a():
    trunk = built("sinc_xvector").eval()
    assert round(n_parameters(trunk) / 1e6, 2) == 4.34
    # 135 samples, 8.44 ms, more of input give one frame more.
    for samples, frames in ((48_000, 337), (48_000 + 135, 338)):
        assert frames_before_pooling(trunk, noise(1, 1, samples)).shape == (1, 1500, frames)


def test_ecapa_tdnn_has_the_sizes_of_its_paper():
    # Desplanques et al. 2020, Table 1: 6.2 M and 14.7 M, with 80 inputs (40 here).
    for channels, millions in ((512, 6.2), (1024, 14.7)):
        trunk = built("ecapa_tdnn", embedding_dim=192, channels=channels)
        of_40_more_inputs = 40 * 5 * channels
        assert round((n_parameters(trunk) + of_40_more_inputs) / 1e6, 1) == millions


# ---------------------------------------------------------------------------- every trunk


def small(name: str, embedding_dim: int = 24) -> nn.Module:
    return built(name, embedding_dim=embedding_dim, **SMALL.get(name, {}))


@pytest.mark.parametrize("name", TRUNKS)
class TestEveryTrunk:
    def test_any_length_from_half_a_second_gives_an_embedding_that_no_other_item_changes(
        self, name
    ):
        trunk = small(name).eval()
        for samples in (8000, 8001, 11_234):
            levels = torch.tensor([[1.0], [0.1], [10.0]])
            features = features_of(trunk, levels * noise(3, samples))
            together, alone = trunk(features)[1:2], trunk(features[1:2])
            assert alone.shape == (1, 24)
            torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)

    def test_in_double_precision_all_of_it_is_computed_in_double_precision(self, name):
        single, double = small(name).eval(), small(name).eval().double()
        features = features_of(single, noise(2, 8000))
        x, step = features.double(), 1e-9 * noise(*features.shape).double()
        with torch.no_grad():
            before, here, after = (double(x + sign * step) for sign in (-1, 0, 1))
            torch.testing.assert_close(single(features).double(), here, atol=1e-4, rtol=1e-3)
        # Anything rounded to float32 on the way would make such small steps uneven.
        torch.testing.assert_close(after - here, here - before, atol=1e-12, rtol=1e-3)

    def test_a_louder_recording_has_the_same_embedding(self, name):
        # A gain moves log-mel and the zeroth cepstral coefficient by a constant, which the mean
        # over time takes off; it scales the others, which the deviation takes off.
        trunk, waveform = small(name).eval(), noise(1, 8000)
        with torch.no_grad():
            quiet, loud = (trunk(features_of(trunk, gain * waveform)) for gain in (1, 4))
        assert F.cosine_similarity(quiet, loud).item() == pytest.approx(1, abs=1e-3)

    def test_silence_has_finite_gradients(self, name):
        trunk = small(name).train()
        trunk(features_of(trunk, torch.zeros(2, 8000))).square().sum().backward()
        for key, parameter in trunk.named_parameters():
            assert parameter.grad.isfinite().all(), key

    def test_under_autocast_the_embedding_is_nearly_the_same_and_silence_is_finite(self, name):
        trunk = small(name).eval()
        features = features_of(trunk, torch.stack([noise(8000), torch.zeros(8000)]))
        with torch.no_grad():
            exact = trunk(features)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                rounded = trunk(features).float()
        assert rounded.isfinite().all()
        assert F.cosine_similarity(exact[0], rounded[0], dim=0) > 0.99


# ------------------------------------------------------------------------------- poolings


def pooled_by_definition(name: str, pooling: nn.Module, frames: np.ndarray) -> np.ndarray:
    """(C, T) -> (C,) or (2 C,), where a frame weighs exp(a . tanh(W x + b)) if it is attended."""
    weights = np.ones(frames.shape[1])
    if name in ("sap", "asp"):
        state = {key: w.double().numpy() for key, w in pooling.attention.state_dict().items()}
        hidden = np.tanh(frames.T @ state["linear.weight"].T + state["linear.bias"])
        weights = np.exp(hidden @ state["context"][:, 0])
    mean = np.average(frames, axis=1, weights=weights)
    if name in ("tap", "sap"):
        return mean
    variance = np.average((frames - mean[:, None]) ** 2, axis=1, weights=weights)
    return np.concatenate([mean, np.sqrt(variance)])


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooling_equals_its_definition_in_float64(name):
    pooling, frames = POOLINGS[name](6), 2 * noise(3, 6, 17)
    expected = [pooled_by_definition(name, pooling, x) for x in frames.double().numpy()]
    np.testing.assert_allclose(pooling(frames).detach(), np.stack(expected), atol=1e-5)


def test_ecapa_pooling_equals_a_loop_over_frames():
    torch.manual_seed(0)
    pooling, frames = ChannelAttentiveStatistics(4, bottleneck=3).double(), noise(1, 4, 7).double()
    state = {key: w.numpy() for key, w in pooling.state_dict().items()}
    x = frames[0].numpy()
    scores = []
    for frame in x.T:
        context = np.concatenate([frame, x.mean(1), x.std(1)])
        hidden = np.tanh(state["down.weight"][:, :, 0] @ context + state["down.bias"])
        scores.append(np.exp(state["up.weight"][:, :, 0] @ hidden + state["up.bias"]))
    weights = np.transpose(scores)  # (C, T)
    mean = np.average(x, axis=1, weights=weights)
    deviation = np.sqrt(np.average((x - mean[:, None]) ** 2, axis=1, weights=weights))
    expected = np.concatenate([mean, deviation])
    np.testing.assert_allclose(pooling(frames)[0].detach(), expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "keywords", "words"),
    [
        ("fast_resnet34", {"pooling": "max"}, "'max' is not one of tap, statistics, sap, asp"),
        ("xvector", {"channels": 8}, "xvector has no key 'channels': expected one of embedding"),
        ("ecapa_tdnn", {"channels": 20}, "channels is a multiple of 8, got 20"),
        ("compact_tdnn", {"channels": "32"}, "channels is a whole number from 1, got '32'"),
        ("compact_tdnn", {"embedding_dim": True}, "embedding_dim is a whole .*, got True"),
        ("vgg_m40", {"pooling": ["sap"]}, r"vgg_m40: pooling is a word, got \['sap'\]"),
        ("half_resnet34", {"log": 1}, "half_resnet34: log is true or false, got 1"),
    ],
)
def test_a_trunk_that_cannot_be_is_refused_in_one_sentence(name, keywords, words):
    with pytest.raises(StudyError, match=words):
        Embedder(name, keywords)


def test_res2_passes_its_first_group_and_chains_the_others():
    torch.manual_seed(0)
    res2 = Res2(16, dilation=2, groups=4).eval()
    x = noise(1, 16, 20)
    groups = x.split(4, dim=1)
    expected = [groups[0], res2.layers[0](groups[1])]
    expected.append(res2.layers[1](groups[2] + expected[1]))
    expected.append(res2.layers[2](groups[3] + expected[2]))
    torch.testing.assert_close(res2(x), torch.cat(expected, dim=1))


# -------------------------------------------------------------------------------- SincConv


def test_sinc_filters_equal_their_closed_form_at_initialisation():
    """Windowed differences of two ideal low-pass filters, 1 at the centre, evenly spaced in mel."""
    mels = np.linspace(2595 * np.log10(1 + 30 / 700), 2595 * np.log10(1 + 7900 / 700), 81)
    hertz = 700 * (10 ** (mels / 2595) - 1)
    low = 50 + hertz[:-1]
    high = np.minimum(low + 50 + np.diff(hertz), 8000)
    f1, f2, n = low[:, None] / 16_000, high[:, None] / 16_000, np.arange(-125, 126)
    ideal = 2 * f2 * np.sinc(2 * f2 * n) - 2 * f1 * np.sinc(2 * f1 * n)
    expected = ideal / (2 * (f2 - f1)) * (0.54 + 0.46 * np.cos(2 * np.pi * n / 250))
    filters = SincConv(80, width=251, stride=5).filters()
    np.testing.assert_allclose(filters.detach(), expected, atol=2e-5)
