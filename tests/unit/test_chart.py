"""The chart: a bar for every month of the calendar, on a scale that can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.chart import FULL_HEIGHT, draw_chart
from dashboard.months import Goals, Month
from dashboard.periods import Period

GOALS = Goals(0, 0, 0, 0, 0)
AMOUNTS = st.integers(0, 2_147_483_647)


def month(period: tuple[int, int], faturamento: int = 0, lucro: int = 0) -> Month:
    return Month(*period, faturamento, lucro, 0, 0, 0, 0, GOALS)


def test_bars_stand_in_the_order_of_the_calendar_with_gaps_shown() -> None:
    chart = draw_chart([month((2025, 11)), month((2026, 2))])

    assert [bar.period for bar in chart.bars] == [
        *(Period(2025, 11), Period(2025, 12), Period(2026, 1), Period(2026, 2)),
    ]
    assert [bar.month is None for bar in chart.bars] == [False, True, True, False]


def test_only_the_last_twelve_months_of_the_calendar_are_drawn() -> None:
    chart = draw_chart([month((2025, 3), 900_000), month((2025, 4)), month((2026, 3), 10)])

    assert (len(chart.bars), chart.bars[0].period, chart.top) == (12, Period(2025, 4), 1_000)


@pytest.mark.parametrize(
    ("most", "top"),
    [
        *((0, 1_000), (999, 1_000), (1_000, 1_000), (1_001, 2_000), (2_001, 5_000)),
        *((5_001, 10_000), (17_600, 20_000), (2_147_483_647, 5_000_000_000)),
    ],
)
def test_top_of_the_scale_is_the_next_round_amount(most: int, top: int) -> None:
    assert draw_chart([month((2026, 3), most)]).top == top


def test_profit_above_revenue_fits_too() -> None:
    assert draw_chart([month((2026, 3), 10, 4_000)]).top == 5_000


def test_heights_are_parts_of_the_scale() -> None:
    [bar] = draw_chart([month((2026, 3), 15_000, 5_000)]).bars

    assert (bar.revenue, bar.profit) == (750, 250)


def test_smallest_amount_can_be_seen_and_nothing_is_nothing() -> None:
    [small, _, big] = draw_chart([month((2026, 1), 1), month((2026, 3), 90_000)]).bars

    assert (small.revenue, small.profit, big.revenue) == (4, 0, 900)


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=12))
def test_no_bar_stands_out_of_the_chart(amounts: list[tuple[int, int]]) -> None:
    chart = draw_chart([month((2026, i + 1), *pair) for i, pair in enumerate(amounts)])

    assert all(0 <= bar.revenue <= FULL_HEIGHT for bar in chart.bars)
    assert all(0 <= bar.profit <= FULL_HEIGHT for bar in chart.bars)
