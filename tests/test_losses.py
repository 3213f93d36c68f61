"""What every loss of the dictionary must hold to; a new loss is tested here without new code.

The equations themselves are checked in test_losses_equations.py.
"""

import inspect
import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.profiler import profile

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
    "positive_weight": 0.6,
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


def degenerate_embeddings(loss: nn.Module, labels: Tensor, m: int) -> dict[str, Tensor]:
    """Batches at the edges: cosines of exactly 1, -1 or none at all."""
    n = len(labels)
    one = torch.linspace(-1, 1, D).expand(n, m, D)
    cases = {
        "all equal": one,
        "all zero": torch.zeros(n, m, D),
        "speakers opposite": one * (-1.0) ** torch.arange(n)[:, None, None],
        "a speaker's own opposite": one * (-1.0) ** torch.arange(m)[:, None],
        "one zero": one.clone().index_fill_(0, torch.tensor([0]), 0.0),
        "hardly any length": one * 1e-30,
    }
    if hasattr(loss, "weight"):
        own = loss.weight.detach().view(C, -1, D)[labels, :1].expand(n, m, D)
        cases |= {"own weights": own, "own weights, opposite": -own}
    return cases


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_no_degenerate_batch_gives_an_infinite_loss_or_gradient(name, dtype):
    numbers = {"scale": 60.0} if "scale" in studied(name) else {}
    loss = build(name, **numbers)
    _, labels = batch()
    for case, embeddings in degenerate_embeddings(loss, labels, m=3).items():
        loss.zero_grad()
        x = embeddings.to(dtype, copy=True).requires_grad_()
        value = loss(x, labels)
        value.backward()
        assert value.isfinite(), case
        assert x.grad.isfinite().all(), case
        assert all(p.grad.isfinite().all() for p in loss.parameters()), case


@pytest.mark.parametrize("name", [name for name in LOSSES if studied(name)])
def test_studied_numbers_are_plain_attributes_read_at_each_forward(name):
    embeddings, labels = batch()
    for number, value in studied(name).items():
        if number in ("n_subcenters", "hard_fraction"):  # a shape; 1 of 4 candidates either way
            continue
        more = type(value)(1.6 * value)
        loss, expected = build(name), build(name, **{number: more})
        expected.load_state_dict(loss.state_dict())
        before = loss(embeddings, labels)
        loss.load_state_dict(expected.state_dict())
        setattr(loss, number, more)
        assert before != loss(embeddings, labels) == expected(embeddings, labels)


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_makes_no_tensor_of_batch_squared_by_dimension(name):
    n, m, d, c = 32, 2, 128, 40
    loss, (embeddings, labels) = build(name, d=d, c=c), batch(n, m, d, c)
    with profile(record_shapes=True, use_kineto=False) as operations:
        loss(embeddings.requires_grad_(), labels).backward()
    shapes = [shape for operation in operations.function_events for shape in operation.input_shapes]
    s = n * m
    assert s * d <= max(map(math.prod, shapes)) <= max(s * s, s * d, 2 * c * max(s, d))


@pytest.mark.gpu
@pytest.mark.parametrize("name", LOSSES)
def test_the_gpu_gives_what_the_cpu_gives(name):
    embeddings, labels = batch()
    x, y = embeddings.clone().requires_grad_(), embeddings.cuda().requires_grad_()
    value, other_value = build(name)(x, labels), build(name).cuda()(y, labels.cuda())
    value.backward()
    other_value.backward()
    same_value(other_value.cpu(), value, 1e-5)
    same_value(y.grad.cpu(), x.grad, 1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_embeddings_are_computed_in_float32_even_under_autocast(name):
    embeddings, labels = batch()
    embeddings = embeddings.to(torch.float16)
    expected = build(name)(embeddings.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = build(name)(embeddings, labels)
    same_value(value, expected, 0.0)


@pytest.mark.parametrize("name", WITH_W)
def test_w_starts_as_given_and_is_positive_for_any_learned_number(name):
    for start in (2e-6, 1.0, 1e6):
        assert build(name, w=start).w.item() == pytest.approx(start, rel=1e-5)
    loss = build(name)
    for raw in (-1e30, 0.0, 1e30):
        loss.raw_w.data.fill_(raw)
        assert 0 < loss.w.item() < math.inf


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_that_the_loss_is_not_defined_for_is_refused(name):
    loss, (x, labels) = build(name), batch()
    wrong = [(x[..., 1:], labels, f"expected .N, M, {D}. and"), (x, labels + C, "labels from 0")]
    if name in METRIC:
        wrong += [(x[:, :1], labels, "at least 2 utterances"), (x[:1], labels[:1], "2 speakers")]
        wrong += [(x, labels[[0, 0, 1, 2, 3]], "of another speaker")]
    for embeddings, labels, words in wrong:
        with pytest.raises(ValueError, match=words):
            loss(embeddings, labels)


@pytest.mark.parametrize(
    ("name", "numbers", "words"),
    [
        ("aam_softmax", {"margin": 11.5}, "aam_softmax: margin is a finite number at least 0 and "),
        ("aam_softmax", {"scale": 0.0}, "scale is a finite number above 0, got 0.0"),
        ("aam_softmax", {"margin": math.nan}, "margin is a finite number .*, got nan"),
        ("aam_softmax", {"margin": "wide"}, "margin is a finite number .*, got 'wide'"),
        ("aam_softmax", {"margin": True}, "margin is a finite number .*, got True"),
        ("contrastive", {"margin": 3.0}, "margin is a finite number above 0 and at most 2"),
        ("triplet", {"hard_fraction": 0.0}, "hard_fraction"),
        ("triplet", {"distance": "manhattan"}, "squared_euclidean, cosine, got 'manhattan'"),
        *[(name, {"w": 0.0}, f"{name}: w is a finite number above 1e-06") for name in WITH_W],
        ("subcenter_aam_softmax", {"n_subcenters": 2.0}, "n_subcenters is a whole number at least"),
        ("subcenter_aam_softmax", {"n_rivals": C}, f"n_rivals is .* below {C}"),
        ("sphereface2", {"positive_weight": 1.0}, "positive_weight"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(name, numbers, words):
    with pytest.raises(StudyError, match=words):
        build(name, **numbers)
