"""Schedules against their closed forms."""

import math

import pytest

from studylib.losses.schedules import Schedule, value_at


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        ({"begins": 0.2, "shape": "step"}, {0: 1.0, 0.1999: 1.0, 0.2: 2.0, 1: 2.0}),
        ({"begins": 0.25, "ends": 0.75}, {0: 1.0, 0.25: 1.0, 0.5: 1.5, 0.75: 2.0, 1: 2.0}),
        ({"final": 0.01, "shape": "exponential"}, {0: 1.0, 0.5: 0.1, 1: 0.01}),
        ({"shape": "cosine"}, {0: 1.0, 0.25: 1.5 - 0.5 * math.cos(math.pi / 4), 1: 2.0}),
    ],
)
def test_a_schedule_has_the_values_of_its_closed_form(keys, values):
    schedule = Schedule(**{"initial": 1.0, "final": 2.0} | keys)
    for progress, value in values.items():
        assert value_at(schedule, progress) == pytest.approx(value, rel=1e-12)
