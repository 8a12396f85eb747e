"""The score of a month, with the numbers of docs/reference/contract.md, and ways to more points."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.months import Goals, Month
from dashboard.score import (
    best_suggestions,
    half_up,
    mean,
    percent_of_goal,
    score,
    score_parts,
)
from tests.support.months import month

NO_GOALS = Goals(faturamento=0, leads=0, procedimentos=0, posts=0, stories=0)
COUNTS = st.integers(0, 2_147_483_647)
PROFITS = st.integers(-2_147_483_648, 2_147_483_647)
GOALS = st.builds(Goals, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
MONTHS = st.builds(
    Month, st.just(2026), st.integers(1, 12), COUNTS, PROFITS, COUNTS, COUNTS, COUNTS, COUNTS, GOALS
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("1/2", 1), ("3/2", 2), ("5/2", 3), ("49/100", 0), ("51/100", 1), ("-1/2", 0), ("-3/4", -1)],
)
def test_halves_are_rounded_up(value: str, expected: int) -> None:
    assert half_up(Fraction(value)) == expected


@pytest.mark.parametrize(
    ("value", "goal", "expected"),
    [(8, 16, 50), (1, 3, Fraction(100, 3)), (3, 2, 150), (31, 20, 150), (5, 0, 0), (0, 7, 0)],
)
def test_percent_of_a_goal_is_exact_and_at_most_150(
    value: int, goal: int, expected: Fraction
) -> None:
    assert percent_of_goal(value, goal) == expected


@pytest.mark.parametrize(("values", "expected"), [([], 0), ([4], 4), ([1, 2], Fraction(3, 2))])
def test_mean_is_exact_and_zero_without_values(values: list[int], expected: Fraction) -> None:
    assert mean(values) == expected


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((16000, 12, 60, 50, 10), 80),
        ((8000, 6, 30, 25, 5), 40),
        ((12000, 8, 40, 15, 12), 58),
        ((24000, 18, 90, 75, 15), 120),
    ],
    ids=["reached", "half way", "mixed", "far beyond"],
)
def test_score_matches_the_contract(numbers: tuple[int, int, int, int, int], expected: int) -> None:
    assert score(month(*numbers)) == expected


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (month(faturamento=16000), 40),
        (month(posts=12), 10),
        (month(stories=60), 10),
        (month(leads=50), 10),
        (month(procedimentos=10), 10),
        (month(faturamento=200), 1),
        (month(200, posts=3, leads=1), 4),
    ],
    ids=["revenue", "posts", "stories", "leads", "procedures", "half a point", "rounded parts"],
)
def test_each_part_is_weighted_and_rounded_separately(reported: Month, expected: int) -> None:
    assert score(reported) == expected


def test_score_without_goals_is_zero() -> None:
    assert score(month(16000, 12, 60, 50, 10, goals=NO_GOALS)) == 0


@given(reported=MONTHS)
def test_score_is_between_0_and_120(reported: Month) -> None:
    assert 0 <= score(reported) <= 120


@given(reported=MONTHS)
def test_parts_add_up_to_the_score(reported: Month) -> None:
    assert sum(part.points for part in score_parts(reported)) == score(reported)


def test_parts_say_how_many_points_their_goals_give() -> None:
    parts = score_parts(month(16000, posts=12, stories=60, leads=25, procedimentos=5))

    assert [(part.points, part.full) for part in parts] == [(40, 40), (20, 20), (10, 20)]


@given(reported=MONTHS)
def test_each_way_earns_its_points_and_less_earns_none(reported: Month) -> None:
    for way in best_suggestions(reported):
        value = getattr(reported, way.measure)
        enough: dict[str, Any] = {way.measure: value + way.amount}
        too_little: dict[str, Any] = {way.measure: value + way.amount - 1}

        assert way.amount > 0
        assert score(replace(reported, **enough)) == score(reported) + way.points
        assert score(replace(reported, **too_little)) == score(reported)


def test_shortest_ways_are_those_with_the_least_part_of_a_goal() -> None:
    # The next point needs 4 more stories of 60, or 3 more leads of 50.
    ways = best_suggestions(month(16000, posts=11, stories=58, leads=50, procedimentos=10))

    assert [(way.measure, way.amount, way.points) for way in ways] == [
        ("faturamento", 200, 1),
        ("leads", 3, 1),
    ]


def test_month_far_beyond_its_goals_has_no_way_to_more_points() -> None:
    assert best_suggestions(month(24000, 18, 90, 75, 15)) == ()


def test_month_without_goals_has_no_way_to_points() -> None:
    assert best_suggestions(month(goals=NO_GOALS)) == ()
