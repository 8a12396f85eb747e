"""Shapes end by themselves, however long they are asked to take."""

import pytest

from benchmarks.load_shapes import SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_shape_never_exceeds_its_people_and_is_over_in_time(name: str) -> None:
    crowd = [SHAPES[name].crowd(50, passed / 100) for passed in range(100)]

    assert max(number or 0 for number in crowd) == 50
    assert None not in crowd
    assert (SHAPES[name].crowd(50, 1.0), SHAPES[name].crowd(1, 0.99)) == (None, 1)


@pytest.mark.parametrize(
    ("name", "seconds", "rate"),
    [
        ("at-once", 20, 50),
        ("stampede", 20, 50),
        ("class-start", 120, 50 / 60),
        ("class-start", 3600, 50 / 60),
        ("class-start", 2, 50),
        ("steady-day", 60, 50 / 3),
    ],
)
def test_crowd_comes_as_fast_as_the_shape_says(name: str, seconds: float, rate: float) -> None:
    assert SHAPES[name].arrivals_per_second(50, seconds) == pytest.approx(rate)


def test_day_has_its_quiet_hours_and_its_peaks() -> None:
    day = [SHAPES["steady-day"].crowd(50, hour / 10) for hour in range(10)]

    assert day == [15, 15, 50, 50, 50, 30, 30, 50, 50, 10]
