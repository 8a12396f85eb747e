"""How the dashboard counts: whole numbers, halves rounded up, never a division by zero."""

from collections.abc import Sequence
from fractions import Fraction

PERCENT_CAP = 150  # beyond one and a half times a goal, more does not count more


def half_up(value: Fraction) -> int:
    """Round to the nearest whole number, a half always up (CONTRACT section 4.4)."""
    return (value + Fraction(1, 2)).__floor__()


def percent_of_goal(value: int, goal: int) -> Fraction:
    """How much of a goal is reached, in percent, at most 150; 0 where no goal is set."""
    if goal <= 0:
        return Fraction(0)
    return min(Fraction(100 * value, goal), Fraction(PERCENT_CAP))


def mean(values: Sequence[Fraction | int]) -> Fraction:
    """The arithmetic mean; 0 of nothing."""
    return Fraction(sum(values), len(values)) if values else Fraction(0)


def growth_percent(first: int, last: int) -> int | None:
    """How much the last month is above the first, in percent; None where the first is zero."""
    if first == 0:
        return None
    return half_up(Fraction(100 * (last - first), first))
