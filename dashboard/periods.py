"""Calendar months: the current one, month arithmetic, and which months may be reported."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

BRASILIA = timezone(timedelta(hours=-3))  # no summer time since 2019 (Decreto 9.772)
EARLIEST_YEAR = 2000
MONTHS_PER_YEAR = 12


class PeriodError(Exception):
    """A month that cannot be reported; `field` is `ano` or `mes`.

    `reason` is `unknown_month`, `too_early` or `in_the_future`.
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
        """Return the month `months` later, or earlier if negative."""
        index = self.ano * MONTHS_PER_YEAR + self.mes - 1 + months
        return Period(index // MONTHS_PER_YEAR, index % MONTHS_PER_YEAR + 1)

    @property
    def previous(self) -> "Period":
        """The month before."""
        return self.plus(-1)


def current_period(now: datetime) -> Period:
    """Return the current month in Brasília."""
    local = now.astimezone(BRASILIA)
    return Period(local.year, local.month)


def reportable_period(ano: int, mes: int, *, now: datetime) -> Period:
    """Return the month if it may be reported.

    Raises PeriodError for a month number outside 1 to 12, a year before 2000, or a future month.
    """
    if not 1 <= mes <= MONTHS_PER_YEAR:
        raise PeriodError("mes", "unknown_month")
    if ano < EARLIEST_YEAR:
        raise PeriodError("ano", "too_early")
    period = Period(ano, mes)
    if period > current_period(now):
        raise PeriodError("mes", "in_the_future")
    return period
