"""The chart has a bar for each calendar month and a readable scale."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.chart import FULL_HEIGHT, draw_chart
from dashboard.months import Goals, Month
from dashboard.periods import Period

GOALS = Goals(0, 0, 0, 0, 0)
REVENUES = st.integers(0, 2_147_483_647)
BILLION = 1_000_000_000
PROFITS = st.integers(-2_147_483_648, 2_147_483_647)


def month(period: tuple[int, int], faturamento: int = 0, lucro: int = 0) -> Month:
    return Month(*period, faturamento, lucro, 0, 0, 0, 0, GOALS)


def test_bars_follow_the_calendar_and_show_missing_months() -> None:
    chart = draw_chart([month((2025, 11)), month((2026, 2))])

    periods = [Period(2025, 11), Period(2025, 12), Period(2026, 1), Period(2026, 2)]
    assert [bar.period for bar in chart.bars] == periods
    assert [bar.month is None for bar in chart.bars] == [False, True, True, False]


def test_only_the_last_twelve_calendar_months_are_drawn() -> None:
    chart = draw_chart([month((2025, 3), 900_000), month((2025, 4)), month((2026, 3), 10)])

    assert (len(chart.bars), chart.bars[0].period, chart.marks[0]) == (12, Period(2025, 4), 1_000)


@pytest.mark.parametrize(
    ("revenue", "expected"),
    [
        (0, 1_000),
        (999, 1_000),
        (1_000, 1_000),
        (1_001, 2_000),
        (2_001, 5_000),
        (5_001, 10_000),
        (17_600, 20_000),
        (2_147_483_647, 5_000_000_000),
    ],
)
def test_top_of_the_scale_is_the_next_round_amount(revenue: int, expected: int) -> None:
    assert draw_chart([month((2026, 3), revenue)]).marks[0] == expected


def test_scale_contains_a_profit_above_the_revenue() -> None:
    assert draw_chart([month((2026, 3), 10, 4_000)]).marks[0] == 5_000


def test_heights_are_proportional_to_the_scale() -> None:
    [bar] = draw_chart([month((2026, 3), 15_000, 5_000)]).bars

    assert (bar.value, bar.profit) == (750, 250)


def test_smallest_amount_is_visible_and_zero_has_no_height() -> None:
    [small, _, big] = draw_chart([month((2026, 1), 1), month((2026, 3), 90_000)]).bars

    assert (small.value, small.profit, big.value) == (4, 0, 900)


def test_scale_without_a_loss_starts_at_zero() -> None:
    chart = draw_chart([month((2026, 3), 10_000, 4_000)])

    assert (chart.marks, chart.zero, chart.has_loss) == ((10_000, 5_000, 0), FULL_HEIGHT, False)


def test_loss_is_drawn_below_the_zero_line() -> None:
    chart = draw_chart([month((2026, 2), 3_000, 1_500), month((2026, 3), 1_000, -1_000)])

    assert (chart.marks, chart.has_loss) == ((3_000, 2_000, 1_000, 0, -1_000), True)
    assert chart.zero == 750
    assert [(bar.value, bar.profit) for bar in chart.bars] == [(750, 375), (250, -250)]


@pytest.mark.parametrize(
    ("revenue", "profit", "marks"),
    [
        (0, -1, (0, -500)),
        (0, -1_000, (0, -500, -1_000)),
        (17_600, -1_300, (20_000, 15_000, 10_000, 5_000, 0, -5_000)),
        (100, -9_000, (5_000, 0, -5_000, -10_000)),
        (2_147_483_647, -2_147_483_648, (4 * BILLION, 2 * BILLION, 0, -2 * BILLION, -4 * BILLION)),
    ],
)
def test_marks_of_a_chart_with_a_loss_are_round_and_equidistant(
    revenue: int, profit: int, marks: tuple[int, ...]
) -> None:
    assert draw_chart([month((2026, 3), revenue, profit)]).marks == marks


def test_smallest_loss_is_visible() -> None:
    chart = draw_chart([month((2026, 1), 90_000, -1)])

    assert chart.bars[0].profit == -4


def test_months_before_the_window_do_not_change_the_scale() -> None:
    chart = draw_chart([month((2025, 3), 0, -900_000), month((2025, 4)), month((2026, 3), 10)])

    assert (chart.marks, chart.has_loss) == ((1_000, 500, 0), False)


@given(st.lists(st.tuples(REVENUES, PROFITS), min_size=1, max_size=12))
def test_all_bars_are_inside_the_chart(amounts: list[tuple[int, int]]) -> None:
    chart = draw_chart([month((2026, i + 1), *pair) for i, pair in enumerate(amounts)])

    assert all(0 <= bar.value <= chart.zero for bar in chart.bars)
    assert all(
        bar.profit is not None and chart.zero - FULL_HEIGHT <= bar.profit <= chart.zero
        for bar in chart.bars
    )
    assert chart.has_loss == any(profit < 0 for _, profit in amounts)


@given(REVENUES, PROFITS)
def test_marks_are_few_and_equidistant_and_contain_zero(revenue: int, profit: int) -> None:
    marks = draw_chart([month((2026, 3), revenue, profit)]).marks

    steps = {above - below for above, below in pairwise(marks)}
    assert (len(steps), 0 in marks, 2 <= len(marks) <= 6) == (1, True, True)
    assert marks[0] >= max(revenue, profit)
    assert marks[-1] <= min(0, profit)


def test_other_measures_have_one_bar_and_a_scale_of_counts() -> None:
    goals = replace(GOALS, leads=30)
    reported = Month(2026, 3, 10_000, -500, 12, 0, 0, 0, goals)

    chart = draw_chart([reported], "leads")

    assert (chart.marks, chart.has_loss) == ((50, 25, 0), False)
    assert [(bar.value, bar.profit, bar.goal) for bar in chart.bars] == [(240, None, 600)]


def test_smallest_scale_of_counts_ends_at_ten() -> None:
    assert draw_chart([month((2026, 3), 10_000)], "posts").marks == (10, 5, 0)


def test_goal_is_part_of_the_scale_and_each_month_has_its_own() -> None:
    months = [
        replace(month((2026, mes), 5_000), goals=replace(GOALS, faturamento=goal))
        for mes, goal in ((1, 0), (2, 10_000), (3, 40_000))
    ]

    chart = draw_chart(months)

    assert (chart.marks[0], chart.has_goal) == (50_000, True)
    assert [bar.goal for bar in chart.bars] == [None, 200, 800]


def test_profit_has_no_goal_and_may_be_all_losses() -> None:
    chart = draw_chart([month((2026, 3), 10_000, -700)], "lucro")

    assert (chart.marks, chart.has_goal, chart.zero) == ((0, -500, -1_000), False, 0)
    assert chart.bars[0].value == -700
