"""Schedules against their closed forms."""

import math

import pytest
from pydantic import TypeAdapter, ValidationError

from studylib.losses.schedules import Schedule, value_at


def test_a_step_jumps_where_it_begins_and_nowhere_else():
    curriculum = Schedule(initial=0.1, final=0.3, begins=0.2, shape="step")
    assert [curriculum.at(p) for p in (0.0, 0.1999, 0.2, 1.0)] == [0.1, 0.1, 0.3, 0.3]


def test_a_linear_warm_up_is_flat_before_and_after():
    warm_up = Schedule(initial=0.0, final=0.2, begins=0.25, ends=0.75)
    expected = [0.0, 0.0, 0.1, 0.2, 0.2]
    assert [warm_up.at(p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(expected)


def test_the_staircase_is_paper_b_s_learning_rate_of_500_epochs():
    staircase = Schedule(initial=0.001, final=0.001 * 0.95**50, shape="staircase", steps=50)
    for epoch in (0, 9, 10, 11, 250, 499):
        expected = 0.001 * 0.95 ** (epoch // 10)
        assert staircase.at(epoch / 500) == pytest.approx(expected, rel=1e-12)


def test_exponential_and_cosine_pass_their_middles():
    assert Schedule(initial=1.0, final=0.01, shape="exponential").at(0.5) == pytest.approx(0.1)
    cosine = Schedule(initial=2.0, final=1.0, shape="cosine")
    assert cosine.at(0.25) == pytest.approx(1.5 + 0.5 * math.cos(math.pi / 4))


def test_a_number_is_the_same_at_all_times():
    assert value_at(0.3, 0.0) == value_at(0.3, 1.0) == 0.3


@pytest.mark.parametrize(
    "keys",
    [
        {"begins": 0.8, "ends": 0.2},
        {"ends": 1.5},
        {"initial": 0.0, "shape": "exponential"},
        {"shape": "parabola"},
        {"inital": 1.0},
        {"final": math.nan},
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(keys):
    with pytest.raises(ValidationError):
        TypeAdapter(Schedule).validate_python({"initial": 1.0, "final": 2.0} | keys)
