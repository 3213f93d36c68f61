"""What every loss of the dictionary must hold to; a new loss is tested here without new code.

The equations themselves are checked in test_losses_equations.py.
"""

import inspect
import io
import math

import pytest
import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.autograd.profiler import profile

import studylib.losses.common as common
from studylib.errors import StudyError
from studylib.losses import LOSSES

# One value for each studied number, whichever loss has it.
NUMBERS = {
    "margin": 0.2,
    "scale": 30.0,
    "alpha": 6.25,
    "center_weight": 1.0,
    "hard_fraction": 0.01,
    "n_subcenters": 2,
    "n_rivals": 2,
    "rival_margin": 0.06,
    "positive_weight": 0.7,
    "t": 3.0,
    "temperature": 0.1,
}
D, C = 12, 9
METRIC = [name for name, loss in LOSSES.items() if loss.min_utterances_per_speaker > 1]
CLASSIFICATION = [name for name in LOSSES if name not in METRIC]
WITH_W = [name for name, loss in LOSSES.items() if hasattr(loss, "w")]


def studied(name: str) -> dict[str, float]:
    """The keywords that a loss demands, with a value for each."""
    keywords = inspect.signature(LOSSES[name]).parameters.values()
    return {p.name: NUMBERS[p.name] for p in keywords if p.default is p.empty and p.kind == 3}


def build(name: str, torch_seed: int = 0, d: int = D, c: int = C, **numbers) -> nn.Module:
    torch.manual_seed(torch_seed)
    return LOSSES[name](d, c, **(studied(name) | numbers))


def batch(n: int = 5, m: int = 2, d: int = D, c: int = C, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(n, m, d, generator=generator)
    return embeddings, torch.randperm(c, generator=generator)[:n]


def same_value(a: Tensor, b: Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_lives_in_the_file_of_its_name_and_has_keywords_for_its_numbers(name):
    loss = LOSSES[name]
    assert loss.__module__ == f"studylib.losses.{name}"
    assert loss.scoring == ("euclidean" if name == "prototypical" else "cosine")
    parameters = inspect.signature(loss).parameters
    assert list(parameters)[:2] == ["embedding_dim", "n_speakers"]
    assert all(p.kind == p.KEYWORD_ONLY for p in list(parameters.values())[2:])


def test_every_loss_has_a_title_of_its_own():
    assert len({loss.title for loss in LOSSES.values()}) == len(LOSSES)


def degenerate_embeddings(loss: nn.Module, labels: Tensor, m: int) -> dict[str, Tensor]:
    """Batches at the edges: cosines of exactly 1, -1 or none at all."""
    n = len(labels)
    one = torch.linspace(-1, 1, D).expand(n, m, D)
    signs = torch.ones(n, m, 1)
    signs[::2] = -1
    alternating = signs.clone()
    alternating[:, ::2] *= -1
    cases = {
        "all equal": one,
        "all zero": torch.zeros(n, m, D),
        "speakers opposite": one * signs,
        "a speaker's own opposite": one * alternating,
        "one zero": one.clone().index_fill_(0, torch.tensor([0]), 0.0),
        "hardly any length": one * 1e-30,
        "short": one * 1e-5,
        "great length": one * 1e4,
    }
    if hasattr(loss, "weight"):
        own = loss.weight.detach().view(C, -1, D)[labels, :1].expand(n, m, D)
        cases |= {"own weights": own, "own weights, opposite": -own, "at 1000": 1000 * own}
    return {key: case.clone() for key, case in cases.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_no_degenerate_batch_gives_an_infinite_loss_or_gradient(name, dtype):
    numbers = {"scale": 60.0} if "scale" in studied(name) else {}
    loss = build(name, **numbers)
    _, labels = batch()
    for case, embeddings in degenerate_embeddings(loss, labels, m=3).items():
        loss.zero_grad()
        x = embeddings.to(dtype).requires_grad_()
        value = loss(x, labels)
        value.backward()
        assert value.isfinite(), case
        assert x.grad.isfinite().all(), case
        assert all(p.grad.isfinite().all() for p in loss.parameters()), case


@pytest.mark.parametrize("name", [name for name in LOSSES if studied(name)])
def test_studied_numbers_are_plain_attributes_read_at_each_forward(name):
    embeddings, labels = batch()
    changed = {"margin": 0.35, "scale": 20.0, "alpha": 3.0, "hard_fraction": 0.3} | {
        "center_weight": 0.5, "rival_margin": 0.1, "positive_weight": 0.6, "t": 2.0,
        "temperature": 0.2, "n_rivals": 1,
    }  # fmt: skip
    for number in set(studied(name)) - {"n_subcenters"}:
        loss, expected = build(name), build(name, **{number: changed[number]})
        expected.load_state_dict(loss.state_dict())
        before = loss(embeddings, labels)
        loss.load_state_dict(expected.state_dict())
        setattr(loss, number, changed[number])
        after = loss(embeddings, labels)
        same_value(after, expected(embeddings, labels), 0.0)
        assert number == "hard_fraction" or after != before


def watched(loss: nn.Module, embeddings: Tensor, labels: Tensor) -> list:
    """The operations of a forward and backward, each with its name and the shapes it took."""
    with profile(record_shapes=True, use_kineto=False) as operations:
        loss(embeddings.requires_grad_(), labels).backward()
    return operations.function_events


@pytest.mark.parametrize("name", LOSSES)
def test_neither_forward_nor_backward_asks_the_host_for_a_value(name, monkeypatch):
    # The check of a batch looks at labels on the CPU only, which is where this test runs.
    monkeypatch.setattr(common, "check_batch", lambda *_: None)
    names = {operation.name for operation in watched(build(name), *batch())}
    asking = {"item", "_local_scalar_dense", "is_nonzero", "equal"}
    sized_by_values = {"nonzero", "masked_select", "_unique2", "unique_dim", "bincount"}
    assert "aten::mul" in names or "aten::mm" in names or "aten::addmm" in names
    assert not names & {f"aten::{name}" for name in asking | sized_by_values}


@pytest.mark.gpu
@pytest.mark.parametrize("name", LOSSES)
def test_forward_and_backward_do_not_wait_for_the_gpu(name):
    loss = build(name).cuda()
    embeddings, labels = (tensor.cuda() for tensor in batch())
    loss(embeddings.requires_grad_(), labels).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(embeddings, labels).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("name", LOSSES)
def test_the_gpu_gives_what_the_cpu_gives(name):
    embeddings, labels = batch()
    loss = build(name)
    x = embeddings.clone().requires_grad_()
    state = loss.state_dict()
    value = loss(x, labels)
    value.backward()
    other = build(name).cuda()
    other.load_state_dict(state)
    y = embeddings.cuda().requires_grad_()
    other_value = other(y, labels.cuda())
    other_value.backward()
    same_value(other_value.cpu(), value, 1e-5)
    same_value(y.grad.cpu(), x.grad, 1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_no_tensor_grows_with_the_square_of_the_batch_times_the_dimension(name):
    n, m, d, c = 32, 2, 128, 40
    loss = build(name, d=d, c=c)
    embeddings, labels = batch(n, m, d, c)
    s = n * m
    shapes = [shape for op in watched(loss, embeddings, labels) for shape in op.input_shapes]
    largest = max(math.prod(shape) for shape in shapes)
    assert s * d <= largest <= max(s * s, s * d, 2 * c * max(s, d))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_embeddings_are_computed_in_float32_even_under_autocast(name, dtype):
    loss = build(name)
    embeddings, labels = batch()
    embeddings = embeddings.to(dtype)
    state = loss.state_dict()
    expected = loss(embeddings.float(), labels)
    loss.load_state_dict(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(embeddings, labels)
    assert value.dtype == torch.float32
    same_value(value, expected, 0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_one_seed_gives_bitwise_the_same_loss_and_another_seed_other_weights(name):
    embeddings, labels = batch()
    first, again, other = build(name, 3), build(name, 3), build(name, 4)
    for _ in range(3):
        assert torch.equal(first(embeddings, labels), again(embeddings, labels))
    for key, parameter in first.named_parameters():
        assert torch.equal(parameter, again.get_parameter(key))
        if parameter.dim() == 2:
            assert not torch.equal(parameter, other.get_parameter(key))


@pytest.mark.parametrize("name", LOSSES)
def test_the_state_survives_saving_without_pickle(name):
    numbers = {"hard_fraction": 1.0} if name == "triplet" else {}
    loss, resumed = build(name, 5, **numbers), build(name, 6, **numbers)
    embeddings, labels = batch()
    loss(embeddings, labels)
    resumed.load_state_dict(from_safetensors(to_safetensors(loss.state_dict())))
    for _ in range(4):
        assert torch.equal(resumed(embeddings, labels), loss(embeddings, labels))
    buffer = io.BytesIO()
    torch.save(loss.state_dict(), buffer)
    buffer.seek(0)
    assert set(torch.load(buffer, weights_only=True)) == set(loss.state_dict())


@pytest.mark.parametrize("name", WITH_W)
def test_w_starts_where_it_is_told_and_is_positive_for_any_learned_number(name):
    for start in (2e-6, 1e-3, 1.0, 10.0, 1e6):
        assert build(name, w=start).w.item() == pytest.approx(start, rel=1e-5)
    loss = build(name)
    for raw in (-1e30, -100.0, 0.0, 1e30):
        with torch.no_grad():
            loss.raw_w.fill_(raw)
        assert 0 < loss.w.item() < math.inf


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_that_the_loss_is_not_defined_for_is_refused(name):
    loss = build(name)
    embeddings, labels = batch()
    wrong = [
        (embeddings[:, 0], labels, "expected"),
        (embeddings[..., 1:], labels, f"expected .N, M, {D}. and"),
        (embeddings, labels[:-1], "expected"),
        (embeddings, labels + C, f"labels from 0 to {C - 1}"),
        (embeddings, labels - C, f"labels from 0 to {C - 1}"),
    ]
    if name in METRIC:
        wrong += [
            (embeddings[:, :1], labels, "at least 2 utterances"),
            (embeddings[:1], labels[:1], "of 2 speakers"),
            (embeddings, labels[[0, 0, 1, 2, 3]], "of another speaker"),
        ]
    for embeddings, labels, words in wrong:
        with pytest.raises(ValueError, match=words):
            loss(embeddings, labels)


@pytest.mark.parametrize(
    ("name", "numbers", "words"),
    [
        ("aam_softmax", {"margin": 11.5}, "aam_softmax: margin is a finite number at least 0 and "),
        ("aam_softmax", {"scale": 0.0}, "scale is a finite number above 0, got 0.0"),
        ("aam_softmax", {"scale": math.inf}, "scale is a finite number above 0, got inf"),
        ("aam_softmax", {"margin": math.nan}, "margin is a finite number .*, got nan"),
        ("aam_softmax", {"margin": "wide"}, "margin is a finite number .*, got 'wide'"),
        ("aam_softmax", {"margin": True}, "margin is a finite number .*, got True"),
        ("am_softmax", {"margin": -0.1}, "margin"),
        ("coco", {"alpha": -1.0}, "alpha"),
        ("center", {"center_weight": -1.0}, "center_weight"),
        ("contrastive", {"margin": 3.0}, "margin is a finite number above 0 and at most 2"),
        ("triplet", {"margin": -0.1}, "margin"),
        ("triplet", {"hard_fraction": 0.0}, "hard_fraction"),
        ("triplet", {"distance": "manhattan"}, "squared_euclidean, cosine, got 'manhattan'"),
        ("triplet", {"triplets": "some"}, "drawn, all"),
        ("triplet", {"form": "cubic"}, "hinge, sigmoid"),
        ("ge2e", {"b": math.nan}, "b is a finite number, got nan"),
        *[(name, {"w": 0.0}, f"{name}: w is a finite number above 1e-06") for name in WITH_W],
        ("subcenter_aam_softmax", {"n_subcenters": 0}, "n_subcenters is a whole number at least 1"),
        ("subcenter_aam_softmax", {"n_subcenters": 2.0}, "n_subcenters is a whole number"),
        ("subcenter_aam_softmax", {"n_rivals": C}, f"n_rivals is .* below {C}"),
        ("subcenter_aam_softmax", {"rival_margin": 3.0}, "rival_margin"),
        ("sphereface2", {"t": 0.5}, "t is a finite number at least 1"),
        ("sphereface2", {"positive_weight": 1.0}, "positive_weight"),
        ("supcon", {"temperature": 0.0}, "temperature"),
        ("circle", {"margin": 1.5}, "margin"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(name, numbers, words):
    with pytest.raises(StudyError, match=words):
        build(name, **numbers)
