"""The table of trunks: its numbers against closed forms."""

import pytest
import torch

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


def test_multiply_adds_of_the_xvector_are_those_counted_by_hand():
    t = 1 + table.TWO_SECONDS // 160
    by_hand = 30 * 5 * 512 * (t - 4) + 512 * 3 * 512 * (t - 8 + t - 14)
    by_hand += (512 * 512 + 512 * 1500) * (t - 14) + 3000 * 512
    sizes = table.trunk_sizes("xvector")
    assert sizes["multiply_adds"] == by_hand
    assert sizes["frames"] == t - 14


def test_the_table_has_a_row_for_each_trunk_and_the_papers_beside_it(monkeypatch):
    few = {name: TRUNKS[name] for name in ("compact_tdnn", "sinc_xvector")}
    monkeypatch.setattr(table, "TRUNKS", few)
    rows = table.trunk_table()
    assert list(rows) == list(few)
    assert rows["sinc_xvector"]["features"] == "waveform"
    assert round(rows["sinc_xvector"]["parameters"] / 1e6, 2) == 4.34
    assert rows["sinc_xvector"]["paper_parameters"] == 4.34
    assert rows["compact_tdnn"]["paper_multiply_adds"] is None


def test_the_sizes_of_a_trunk_are_those_of_its_own_keywords():
    sizes = table.trunk_sizes("compact_tdnn", {"embedding_dim": 16, "channels": 8})
    by_hand = 40 * 5 * 8 + 8 * 3 * 8 + 8 * 16  # convolutions
    by_hand += 2 * (8 + 8 + 16) + 2 * 32 + 32 * 16 + 16 + 2 * 16  # normalisations, linear layer
    assert sizes["parameters"] == by_hand
    # Frames of 25 ms: 5 + 2 x 2 of them, 10 ms apart.
    assert sizes["receptive_field"] == pytest.approx(0.025 + 0.010 * 8)
