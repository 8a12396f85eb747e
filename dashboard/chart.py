"""The chart of the last twelve months: a bar for each calendar month, reported or not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from dashboard.months import WINDOW_MONTHS, Month
from dashboard.periods import Period
from dashboard.score import MONEY, REVENUE

FULL_HEIGHT = 1_000  # bars are measured in thousandths of the chart
LEAST_VISIBLE = 4  # thousandths, for a value that is not zero
LOWEST_TOP = {True: 1_000, False: 10}  # reais or counts; a chart of zeros needs a scale as well
MOST_STEPS = 5  # of a scale with negative amounts


@dataclass(frozen=True, slots=True)
class Bar:
    """One month; `month` is None if none was reported.

    `value`, `profit` and `goal` are lengths in thousandths of the chart, measured from its zero
    line; a loss is negative and is drawn below that line. `profit` is None unless the chart shows
    it beside the revenue, `goal` where the month has none.
    """

    period: Period
    month: Month | None
    value: int = 0
    profit: int | None = None
    goal: int | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """The bars of one measure in calendar order, and their scale.

    `marks` are the values beside the chart in whole reais or counts, from top to bottom, at equal
    distances; one of them is zero. `zero` is its distance from the top in thousandths.
    """

    measure: str
    bars: tuple[Bar, ...]
    marks: tuple[int, ...]
    zero: int

    @property
    def has_loss(self) -> bool:
        """Whether any month has a loss."""
        return self.marks[-1] < 0

    @property
    def has_goal(self) -> bool:
        """Whether any month has a goal for this measure."""
        return any(bar.goal is not None for bar in self.bars)


def draw_chart(months: Sequence[Month], measure: str = REVENUE) -> Chart:
    """Compute the chart of at least one reported month, in ascending order.

    `measure` is one of `score.MEASURES`; beside the revenue the chart shows the profit.
    """
    newest = months[-1].period
    start = newest.plus(1 - WINDOW_MONTHS)
    shown = {month.period: month for month in months if month.period >= start}
    values = [value for month in shown.values() for value in _values(month, measure)]
    goals = [_goal(month, measure) or 0 for month in shown.values()]
    # Zero is part of every scale, also of one of losses only.
    marks = _marks(max(0, *values, *goals), min(values), LOWEST_TOP[measure in MONEY])
    span = marks[0] - marks[-1]
    period, bars = min(shown), []
    while period <= newest:
        month = shown.get(period)
        bars.append(_bar(month, measure, span) if month else Bar(period, None))
        period = period.next
    return Chart(measure, tuple(bars), marks, _length(marks[0], span))


def _values(month: Month, measure: str) -> tuple[int, ...]:
    value: int = getattr(month, measure)
    return (value, month.lucro) if measure == REVENUE else (value,)


def _goal(month: Month, measure: str) -> int | None:
    """Return the goal; None for the profit, which has none, and for a goal of zero."""
    return getattr(month.goals, measure, 0) or None


def _bar(month: Month, measure: str, span: int) -> Bar:
    value, *profits = (_length(each, span) for each in _values(month, measure))
    profit, goal = profits[0] if profits else None, _goal(month, measure)
    return Bar(month.period, month, value, profit, goal and _length(goal, span))


def _length(value: int, span: int) -> int:
    """Return the value in thousandths of the chart, with its sign; at least `LEAST_VISIBLE`."""
    least = LEAST_VISIBLE if value else 0
    length = max(abs(value) * FULL_HEIGHT // span, least)
    return -length if value < 0 else length


def _marks(most: int, least: int, lowest_top: int) -> tuple[int, ...]:
    """Return the scale for values from `least` to `most`, up to at least `lowest_top`.

    Without losses it is a round value, its half and zero. With a loss it is the multiples of the
    smallest round step that needs at most `MOST_STEPS` steps.
    """
    if least >= 0:
        top = next(value for value in _round_values() if value >= max(most, lowest_top))
        return top, top // 2, 0
    steps = (step for step in _round_values() if step >= lowest_top // 2)
    # From the first mark at or above `most` down to the first one at or below `least`.
    scales = (range(-(-most // step) * step, least // step * step - 1, -step) for step in steps)
    return tuple(next(scale for scale in scales if len(scale) <= MOST_STEPS + 1))


def _round_values() -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50 and so on."""
    return (digit * 10**zeros for zeros in count() for digit in (1, 2, 5))
