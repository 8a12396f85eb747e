"""A load shape keeps its number of users and ends by itself."""

import pytest

from benchmarks.load_shapes import SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_shape_never_exceeds_its_users_and_ends_in_time(name: str) -> None:
    users = [SHAPES[name].active_users(50, passed / 100) for passed in range(100)]

    assert max(number or 0 for number in users) == 50
    assert None not in users
    assert (SHAPES[name].active_users(50, 1.0), SHAPES[name].active_users(1, 0.99)) == (None, 1)


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
def test_users_arrive_at_the_rate_of_the_shape(name: str, seconds: float, rate: float) -> None:
    assert SHAPES[name].arrivals_per_second(50, seconds) == pytest.approx(rate)


def test_steady_day_has_quiet_hours_and_peaks() -> None:
    day = [SHAPES["steady-day"].active_users(50, hour / 10) for hour in range(10)]

    assert day == [15, 15, 50, 50, 50, 30, 30, 50, 50, 10]
