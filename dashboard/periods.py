"""Months of the calendar: which one it is, which one came before, and which may be reported."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

BRASILIA = timezone(timedelta(hours=-3))  # no summer time since 2019 (Decreto 9.772)
EARLIEST_YEAR = 2000
MONTHS_PER_YEAR = 12


class PeriodError(Exception):
    """A month that cannot be reported; `field` is `ano` or `mes`, `reason` says why.

    The reason is `unknown_month`, `too_early` or `in_the_future`.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One month of one year; `mes` counts from 1."""

    ano: int
    mes: int

    def plus(self, months: int) -> "Period":
        """The month that many months later, or earlier."""
        index = self.ano * MONTHS_PER_YEAR + self.mes - 1 + months
        return Period(index // MONTHS_PER_YEAR, index % MONTHS_PER_YEAR + 1)

    @property
    def previous(self) -> "Period":
        """The month before."""
        return self.plus(-1)


def current_period(now: datetime) -> Period:
    """The month that it is in Brasília at that moment."""
    there = now.astimezone(BRASILIA)
    return Period(there.year, there.month)


def reportable_period(ano: int, mes: int, *, now: datetime) -> Period:
    """The month of that number, provided that it has begun.

    Raises PeriodError for a month that there is not, that lies before the year 2000, or that is
    still to come.
    """
    if not 1 <= mes <= MONTHS_PER_YEAR:
        raise PeriodError("mes", "unknown_month")
    if ano < EARLIEST_YEAR:
        raise PeriodError("ano", "too_early")
    period = Period(ano, mes)
    if period > current_period(now):
        raise PeriodError("mes", "in_the_future")
    return period
