"""Calendar months: arithmetic, which months may be reported, and until when a month is closed."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

BRASILIA = timezone(timedelta(hours=-3))  # no summer time since 2019 (Decreto 9.772)
EARLIEST_YEAR = 2000
MONTHS_PER_YEAR = 12
CLOSING_DAY = 10  # of the next month; a month should be reported by then
PERIOD_PATTERN = re.compile(r"(\d{4})-(\d{2})", re.ASCII)


class PeriodError(Exception):
    """A month that cannot be reported; `field` is `ano` or `mes`.

    `reason` is `not_a_month`, `unknown_month`, `too_early` or `in_the_future`.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One month of one year; `mes` counts from 1. Its text is «2026-03»."""

    ano: int
    mes: int

    def __str__(self) -> str:
        return f"{self.ano:04}-{self.mes:02}"

    def plus(self, months: int) -> "Period":
        """Return the month `months` later, or earlier if negative."""
        index = self.ano * MONTHS_PER_YEAR + self.mes - 1 + months
        return Period(index // MONTHS_PER_YEAR, index % MONTHS_PER_YEAR + 1)

    @property
    def previous(self) -> "Period":
        """The month before."""
        return self.plus(-1)

    @property
    def next(self) -> "Period":
        """The month after."""
        return self.plus(1)

    @property
    def closes_at(self) -> datetime:
        """The end of the tenth day of the next month, in Brasília."""
        after = self.plus(1)
        return datetime(after.ano, after.mes, CLOSING_DAY + 1, tzinfo=BRASILIA)


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


def parse_period(text: str, *, now: datetime) -> Period:
    """Return the month of a text such as «2026-03»; raises PeriodError for any other."""
    match = PERIOD_PATTERN.fullmatch(text.strip())
    if match is None:
        raise PeriodError("mes", "not_a_month")
    return reportable_period(int(match[1]), int(match[2]), now=now)


def working_period(now: datetime) -> Period:
    """Return the month that mentors work on: until the closing day, the month before."""
    current = current_period(now)
    return current.previous if now < current.previous.closes_at else current
