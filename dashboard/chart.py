"""The chart of the last twelve months: a bar for every month of the calendar, reported or not."""

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard.months import WINDOW_MONTHS, Month
from dashboard.periods import Period

FULL_HEIGHT = 1_000  # bars are measured in thousandths of the chart
LOWEST_TOP = 1_000  # reais; a chart of zeros needs a scale as well
STEPS = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """One month; heights in thousandths of the chart, `month` None where nothing was reported."""

    period: Period
    month: Month | None
    revenue: int
    profit: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars in the order of the calendar, and the amount at the top, in whole reais."""

    bars: tuple[Bar, ...]
    top: int


def draw_chart(months: Sequence[Month]) -> Chart:
    """Draw reported months, which ascend and of which there is at least one."""
    newest = Period(months[-1].ano, months[-1].mes)
    start = newest.plus(1 - WINDOW_MONTHS)
    shown = {Period(m.ano, m.mes): m for m in months if Period(m.ano, m.mes) >= start}
    top = _round_above(max(max(m.faturamento, m.lucro) for m in shown.values()))
    first, bars = min(shown), []
    while first <= newest:
        bars.append(_bar(first, shown.get(first), top))
        first = first.plus(1)
    return Chart(tuple(bars), top)


def _bar(period: Period, month: Month | None, top: int) -> Bar:
    if month is None:
        return Bar(period, None, 0, 0)
    return Bar(period, month, _height(month.faturamento, top), _height(month.lucro, top))


def _height(value: int, top: int) -> int:
    """What is more than nothing can be seen."""
    return max(value * FULL_HEIGHT // top, 4 if value else 0)


def _round_above(value: int) -> int:
    """The next 1, 2 or 5 with zeros, so that half of it can be read too."""
    least = max(value, LOWEST_TOP)
    power = int("1".ljust(len(str(least)), "0"))
    return next(step * power for step in STEPS if step * power >= least)
