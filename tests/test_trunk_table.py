"""The table of trunks: its numbers against closed forms and a clock that tells what it is told."""

import pytest
import torch
from torch import nn

from studylib.models import trunk_table as table
from studylib.models.trunks import TRUNKS


def span(layers: list[tuple[int, int, int]]) -> int:
    """Inputs that one output depends on, for layers of (width, stride, dilation)."""
    inputs, step = 1, 1
    for width, stride, dilation in layers:
        inputs, step = inputs + (width - 1) * dilation * step, step * stride
    return inputs


XVECTOR = [(5, 1, 1), (3, 1, 2), (3, 1, 3), (1, 1, 1), (1, 1, 1)]
SINCNET = [(251, 5, 1), (3, 3, 1), (5, 1, 1), (3, 3, 1), (5, 1, 1), (3, 3, 1)]
VGG = [(7, 2, 1), (3, 2, 1), (5, 2, 1), (3, 2, 1), *[(3, 1, 1)] * 3, (3, 2, 1), (1, 1, 1)]
RESNET = [
    *[(7, 1, 1)],
    *[(3, 1, 1)] * 6,
    *[(3, 2, 1)],
    *[(3, 1, 1)] * 7,
    *[(3, 2, 1)],
    *[(3, 1, 1)] * 11,
    *[(3, 1, 1)] * 6,
]


@pytest.mark.parametrize(
    ("name", "arguments", "seconds"),
    [
        ("xvector", {}, 0.025 + 0.010 * (span(XVECTOR) - 1)),
        ("sinc_xvector", {}, span(SINCNET + XVECTOR) / 16_000),
        ("vgg_m40", {}, 0.025 + 0.010 * (span(VGG) - 1)),
        ("fast_resnet34", {"width": 8}, 0.025 + 0.010 * (span(RESNET) - 1)),
    ],
)
def test_the_receptive_field_is_that_of_the_stack_of_layers(name, arguments, seconds):
    torch.manual_seed(0)
    trunk = TRUNKS[name](**arguments)
    assert table.receptive_field(trunk) == pytest.approx(seconds)
    assert any(isinstance(m, nn.InstanceNorm1d) for m in trunk.modules())  # left as it was


def test_multiply_adds_of_the_xvector_are_those_counted_by_hand():
    t = 1 + table.TWO_SECONDS // 160
    by_hand = 30 * 5 * 512 * (t - 4) + 512 * 3 * 512 * (t - 8 + t - 14)
    by_hand += (512 * 512 + 512 * 1500) * (t - 14) + 3000 * 512
    assert table.count_multiply_adds(TRUNKS["xvector"]()) == by_hand


def test_the_table_has_a_row_for_each_trunk_and_the_papers_beside_it():
    rows = table.trunk_table(["compact_tdnn", "fast_resnet34"], seconds=1e-9, batch_size=2)
    assert list(rows) == ["compact_tdnn", "fast_resnet34"]
    fast = rows["fast_resnet34"]
    assert fast["parameters"] == 1_437_078
    assert fast["paper_multiply_adds"] == 0.45
    assert fast["frames"] == 51
    assert rows["compact_tdnn"]["paper_parameters"] is None
    assert fast["trained"] > 0
    assert fast["embedded"] > 0
    assert "trained" not in table.trunk_table(["compact_tdnn"], seconds=0)["compact_tdnn"]


def test_the_sizes_of_a_trunk_are_those_of_its_own_keywords():
    sizes = table.trunk_sizes("compact_tdnn", {"embedding_dim": 16, "channels": 8})
    by_hand = 40 * 5 * 8 + 8 * 3 * 8 + 8 * 16  # convolutions
    by_hand += 2 * (8 + 8 + 16) + 2 * 32 + 32 * 16 + 16 + 2 * 16  # normalisations, linear layer
    assert sizes["parameters"] == by_hand
    # Frames of 25 ms: 5 + 2 x 2 of them, 10 ms apart.
    assert sizes["receptive_field"] == pytest.approx(0.025 + 0.010 * 8)


def test_speed_is_the_median_of_the_runs_after_the_first(monkeypatch):
    durations = iter([9.0, 0.1, 0.5, 0.2])  # the first warms up
    clock = [0.0]

    def step():
        clock[0] += next(durations)

    monkeypatch.setattr(table.time, "perf_counter", lambda: clock[0])
    assert table.per_second(step, seconds=0.7) == pytest.approx(1 / 0.2)
