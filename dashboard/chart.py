"""The chart of the last twelve months: a bar for each calendar month, reported or not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from dashboard.months import WINDOW_MONTHS, Month
from dashboard.periods import Period

FULL_HEIGHT = 1_000  # bars are measured in thousandths of the chart
LEAST_VISIBLE = 4  # thousandths, for an amount that is not zero
LOWEST_TOP = 1_000  # reais; a chart of zeros needs a scale as well
LOWEST_STEP = LOWEST_TOP // 2
MOST_STEPS = 5  # of a scale with negative amounts
ROUND_DIGITS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Bar:
    """One month; `month` is None if none was reported.

    `revenue` and `profit` are lengths in thousandths of the chart, measured from its zero line. A
    loss is a negative profit, drawn below that line.
    """

    period: Period
    month: Month | None
    revenue: int
    profit: int


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars in calendar order, and their scale.

    `marks` are the amounts beside the chart in whole reais, from top to bottom, at equal distances;
    one of them is zero. `zero` is its distance from the top in thousandths.
    """

    bars: tuple[Bar, ...]
    marks: tuple[int, ...]
    zero: int

    @property
    def has_loss(self) -> bool:
        """Whether any month has a loss."""
        return self.marks[-1] < 0


def draw_chart(months: Sequence[Month]) -> Chart:
    """Compute the chart of at least one reported month, in ascending order."""
    newest = Period(months[-1].ano, months[-1].mes)
    start = newest.plus(1 - WINDOW_MONTHS)
    shown = {Period(m.ano, m.mes): m for m in months if Period(m.ano, m.mes) >= start}
    most = max(max(m.faturamento, m.lucro) for m in shown.values())
    marks = _marks(most, min(m.lucro for m in shown.values()))
    span = marks[0] - marks[-1]
    period, bars = min(shown), []
    while period <= newest:
        bars.append(_bar(period, shown.get(period), span))
        period = period.plus(1)
    return Chart(tuple(bars), marks, _length(marks[0], span))


def _bar(period: Period, month: Month | None, span: int) -> Bar:
    if month is None:
        return Bar(period, None, 0, 0)
    return Bar(period, month, _length(month.faturamento, span), _length(month.lucro, span))


def _length(value: int, span: int) -> int:
    """Return the amount in thousandths of the chart, with its sign; at least `LEAST_VISIBLE`."""
    least = LEAST_VISIBLE if value else 0
    length = max(abs(value) * FULL_HEIGHT // span, least)
    return -length if value < 0 else length


def _marks(most: int, least: int) -> tuple[int, ...]:
    """Return the scale for amounts from `least` to `most`.

    Without losses it is a round amount, its half and zero. With a loss it is the multiples of the
    smallest round step that needs at most `MOST_STEPS` steps.
    """
    if least >= 0:
        top = next(amount for amount in _round_amounts() if amount >= max(most, LOWEST_TOP))
        return top, top // 2, 0
    steps = (step for step in _round_amounts() if step >= LOWEST_STEP)
    step = next(step for step in steps if len(_multiples(most, least, step)) <= MOST_STEPS + 1)
    return tuple(step * number for number in _multiples(most, least, step))


def _multiples(most: int, least: int, step: int) -> range:
    """Return the factors of the step, from the first mark at or above `most` down to `least`."""
    return range(-(-most // step), least // step - 1, -1)


def _round_amounts() -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50 and so on."""
    return (digit * 10**zeros for zeros in count() for digit in ROUND_DIGITS)
