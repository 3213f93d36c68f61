"""Each loss against its paper's equation written as loops, and its limiting cases.

The transcriptions below share nothing with the package: plain loops over float64 numbers, one
utterance, pair or triplet at a time. Autograd runs through them, so gradients are compared too.
"""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from test_losses import CLASSIFICATION, batch, build, same_value
from torch import Tensor

from studylib.losses import LOSSES
from studylib.losses.common import add_angle


def cos(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def mean(values: list[Tensor]) -> Tensor:
    return sum(values) / len(values)


def minus_log_softmax(logits: list[Tensor], own: int) -> Tensor:
    return -torch.log(torch.exp(logits[own]) / sum(torch.exp(logit) for logit in logits))


def utterances(x: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, int]]:
    for j in range(x.shape[0]):
        for i in range(x.shape[1]):
            yield x[j, i], int(labels[j])


def softmax(loss, x, labels):
    rows = list(zip(loss.weight, loss.bias, strict=True))

    def of(u, y):
        return minus_log_softmax([(w * u).sum() + b for w, b in rows], y)

    return mean([of(u, y) for u, y in utterances(x, labels)])


def by_angle(loss, x, labels, target: Callable[[Tensor], Tensor], scale: float):
    """Cross-entropy of scale * cos, the true speaker's angle first turned into a target."""
    values = []
    for u, y in utterances(x, labels):
        cosines = [cos(w, u) for w in loss.weight]
        cosines[y] = target(torch.arccos(cosines[y]))
        values.append(minus_log_softmax([scale * c for c in cosines], y))
    return mean(values)


def am_softmax(loss, x, labels):
    return by_angle(loss, x, labels, lambda angle: torch.cos(angle) - loss.margin, loss.scale)


def arc(angle: Tensor, margin: float) -> Tensor:
    if angle + margin < math.pi:
        return torch.cos(angle + margin)
    return torch.cos(angle) - margin * math.sin(margin)


def aam_softmax(loss, x, labels):
    return by_angle(loss, x, labels, lambda angle: arc(angle, loss.margin), loss.scale)


def coco(loss, x, labels):
    return by_angle(loss, x, labels, torch.cos, loss.alpha)


def subcenter_aam_softmax(loss, x, labels):
    k = loss.n_subcenters
    values = []
    for u, y in utterances(x, labels):
        cosines = []
        for j in range(loss.n_speakers):
            cosines.append(max(cos(w, u) for w in loss.weight[j * k : (j + 1) * k]))
        rivals = sorted((j for j in range(len(cosines)) if j != y), key=lambda j: -cosines[j])
        logits = list(cosines)
        for j in rivals[: loss.n_rivals]:
            angle = torch.arccos(cosines[j])
            if angle > loss.rival_margin:
                logits[j] = torch.cos(angle - loss.rival_margin)
            else:
                logits[j] = torch.cos(angle) + loss.rival_margin * math.sin(loss.rival_margin)
        logits[y] = arc(torch.arccos(cosines[y]), loss.margin)
        values.append(minus_log_softmax([loss.scale * logit for logit in logits], y))
    return mean(values)


def sphereface2(loss, x, labels):
    r, m, b, share = loss.scale, loss.margin, loss.b, loss.positive_weight

    def g(z):
        return 2 * ((z + 1) / 2) ** loss.t - 1

    values = []
    for u, y in utterances(x, labels):
        value = 0.0
        for j, w in enumerate(loss.weight):
            if j == y:
                value += share / r * torch.log1p(torch.exp(-(r * (g(cos(w, u)) - m) + b)))
            else:
                value += (1 - share) / r * torch.log1p(torch.exp(r * (g(cos(w, u)) + m) + b))
        values.append(value)
    return mean(values)


def center(loss, x, labels):
    pulls = [(1 - cos(u, loss.centers[y])) ** 2 for u, y in utterances(x, labels)]
    return softmax(loss, x, labels) + loss.center_weight / 2 * mean(pulls)


def contrastive(loss, x, labels):
    every = list(utterances(x, labels))
    values = []
    for i in range(len(every)):
        for j in range(i + 1, len(every)):
            d = 1 - cos(every[i][0], every[j][0])
            if every[i][1] == every[j][1]:
                values.append(d**2 / 2)
            else:
                values.append(torch.clamp(loss.margin - d, min=0) ** 2 / 2)
    return mean(values)


def triplet(loss, x, labels):
    """The drawn form with a single hardest negative, so that there is nothing to draw; or all."""

    def distance(a, b):
        if loss.distance == "cosine":
            return 1 - cos(a, b)
        a, b = a / a.norm(), b / b.norm()
        return ((a - b) ** 2).sum()

    def value(a, p, n):
        delta = distance(a, p) - distance(a, n) + loss.margin
        if loss.form == "sigmoid":
            return 1 / (1 + torch.exp(-10 * delta))
        return torch.clamp(delta, min=0)

    n, m, _ = x.shape
    values = []
    for j in range(n):
        for i in range(m if loss.triplets == "all" else 1):
            seconds = [1] if loss.triplets == "drawn" else range(m)
            others = [x[k, o] for k in range(n) if k != j for o in seconds]
            others.sort(key=lambda other: distance(x[j, i], other).item())
            kept = max(1, round(loss.hard_fraction * len(others)))
            for o in range(m):
                if o != i:
                    values += [value(x[j, i], x[j, o], other) for other in others[:kept]]
    return mean(values)


def prototypes(x: Tensor) -> list[Tensor]:
    return [mean(list(speaker[:-1])) for speaker in x]


def prototypical(loss, x, labels):
    c = prototypes(x)
    n = len(x)
    d = [[((x[j, -1] - c[k]) ** 2).sum() for k in range(n)] for j in range(n)]
    return mean([minus_log_softmax([-value for value in d[j]], j) for j in range(n)])


def angular_prototypical(loss, x, labels):
    c = prototypes(x)
    values = []
    for j in range(len(x)):
        logits = [loss.w * cos(x[j, -1], c[k]) + loss.b for k in range(len(x))]
        values.append(minus_log_softmax(logits, j))
    return mean(values)


def softmax_prototypical(loss, x, labels):
    parts = loss.softmax, loss.angular_prototypical
    return softmax(parts[0], x, labels) + angular_prototypical(parts[1], x, labels)


def ge2e(loss, x, labels):
    n, m, _ = x.shape
    values = []
    for j in range(n):
        for i in range(m):
            logits = []
            for k in range(n):
                members = [x[k, o] for o in range(m) if (k, o) != (j, i)]
                logits.append(loss.w * cos(x[j, i], mean(members)) + loss.b)
            values.append(minus_log_softmax(logits, j))
    return mean(values)


def supcon(loss, x, labels):
    every = list(utterances(x, labels))
    values = []
    for i, (anchor, y) in enumerate(every):
        others = [other for o, other in enumerate(every) if o != i]
        s = [cos(anchor, other) / loss.temperature for other, _ in others]
        own = [o for o, (_, other_y) in enumerate(others) if other_y == y]
        values.append(mean([minus_log_softmax(s, o) for o in own]))
    return mean(values)


def circle(loss, x, labels):
    every = list(utterances(x, labels))
    values = []
    for i, (anchor, y) in enumerate(every):
        of_positives = of_negatives = 0.0
        for o, (other, other_y) in enumerate(every):
            if o == i:
                continue
            s = cos(anchor, other)
            if other_y == y:
                weight = max(0.0, 1 + loss.margin - s.item())
                of_positives += torch.exp(-loss.scale * weight * (s - (1 - loss.margin)))
            else:
                weight = max(0.0, s.item() + loss.margin)
                of_negatives += torch.exp(loss.scale * weight * (s - loss.margin))
        values.append(torch.log(1 + of_negatives * of_positives))
    return mean(values)


OF_CLASSES = (softmax, am_softmax, aam_softmax, subcenter_aam_softmax, sphereface2, coco, center)
OF_PAIRS = (contrastive, triplet, ge2e, prototypical, angular_prototypical, supcon, circle)
EQUATIONS = {
    equation.__name__: equation for equation in (*OF_CLASSES, *OF_PAIRS, softmax_prototypical)
}
VARIANTS = [(name, {}) for name in LOSSES]
VARIANTS += [
    ("subcenter_aam_softmax", {"margin": 1.4, "rival_margin": 1.2}),
    ("sphereface2", {"positive_weight": 0.95, "t": 1.0}),
    ("triplet", {"distance": "cosine", "form": "sigmoid"}),
    ("triplet", {"triplets": "all", "hard_fraction": 0.3}),
    ("triplet", {"triplets": "all", "hard_fraction": 1.0, "form": "sigmoid"}),
]
CASES = [(*variant, shape) for variant in VARIANTS for shape in ((2, 2, 3), (5, 3, 7))]
CASES += [(name, {}, (6, 1, 12)) for name in CLASSIFICATION]


@pytest.mark.parametrize(("name", "numbers", "shape"), CASES, ids=str)
def test_value_and_gradients_agree_with_the_equation_in_loops(name, numbers, shape):
    n, m, d = shape
    c = n + 3
    loss = build(name, d=d, c=c, **numbers).double()
    expected_loss = build(name, d=d, c=c, **numbers).double()
    embeddings, labels = batch(n, m, d, c)
    x, expected_x = (embeddings.double().requires_grad_() for _ in range(2))
    value, expected = loss(x, labels), EQUATIONS[name](expected_loss, expected_x, labels)
    same_value(value, expected, 1e-9)
    value.backward()
    expected.backward()
    same_value(x.grad, expected_x.grad, 1e-9)
    for key, parameter in loss.named_parameters():
        same_value(parameter.grad, expected_loss.get_parameter(key).grad, 1e-9)
    single = build(name, d=d, c=c, **numbers)
    same_value(single(embeddings, labels).double(), expected, 2e-6)


# --- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prototypical", "ge2e"])
def test_float32_embeddings_of_very_unequal_size_lose_no_digits(name):
    embeddings, labels = batch(n=6, m=3)
    if name == "prototypical":  # speakers close together, in two clusters far from each other
        embeddings = 0.2 * embeddings + torch.tensor([300.0, -300.0] * 3)[:, None, None]
    else:  # one long utterance
        embeddings[2, 1] *= 1e7
    gradients = []
    for x in (embeddings.clone(), embeddings.double()):
        build(name).to(x.dtype)(x.requires_grad_(), labels).backward()
        gradients.append(F.normalize(x.grad.double(), dim=-1))  # long ones have small gradients
    same_value(*gradients, 2e-5)


def test_the_angular_margin_is_its_definition_falls_with_the_angle_and_never_helps():
    cosines = torch.linspace(-1, 1, 2001, dtype=torch.float64)
    for margin in (0.0, 0.2, 1.5):
        turned = add_angle(cosines, margin)
        expected = torch.stack([arc(angle, margin) for angle in torch.arccos(cosines)])
        same_value(turned, expected, 1e-11)
        assert (turned.diff() > 0).all()
        assert (turned <= cosines + 1e-12).all()


# --- triplet's draws ------------------------------------------------------------------------------


def test_negatives_are_drawn_among_the_hardest_of_the_other_speakers_second_utterances():
    embeddings, labels = batch(n=7, m=3)
    drawn = build("triplet", 2, hard_fraction=0.5, margin=4.0)
    values = torch.stack([drawn(embeddings, labels) for _ in range(1000)])
    x = F.normalize(embeddings, dim=-1).double()
    expected = []
    for j in range(7):
        others = torch.stack([x[k, 1] for k in range(7) if k != j])
        hardest = (others @ x[j, 0]).sort(descending=True).values[:3]
        expected += [(2 * (hardest - x[j, 0] @ x[j, i]) + 4.0).mean() for i in (1, 2)]
    standard_error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - torch.stack(expected).mean()) < 4 * standard_error
