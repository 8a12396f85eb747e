"""Calendar months in the time zone of Brasília."""

from datetime import UTC, datetime

import pytest

from dashboard.periods import Period, PeriodError, current_period, reportable_period
from tests.support.users import NOW


@pytest.mark.parametrize(
    ("start", "months", "expected"),
    [
        ((2026, 3), 0, (2026, 3)),
        ((2026, 1), -1, (2025, 12)),
        ((2025, 12), 1, (2026, 1)),
        ((2026, 3), -14, (2025, 1)),
        ((2026, 3), 22, (2028, 1)),
    ],
)
def test_months_can_be_added_across_years(
    start: tuple[int, int], months: int, expected: tuple[int, int]
) -> None:
    assert Period(*start).plus(months) == Period(*expected)


def test_month_starts_at_midnight_in_brasilia() -> None:
    night = datetime(2026, 4, 1, 2, 59, tzinfo=UTC)
    midnight = datetime(2026, 4, 1, 3, 0, tzinfo=UTC)

    assert (current_period(night), current_period(midnight)) == (Period(2026, 3), Period(2026, 4))


@pytest.mark.parametrize(("ano", "mes"), [(2026, 3), (2026, 1), (2000, 1), (2025, 12)])
def test_past_and_current_months_can_be_reported(ano: int, mes: int) -> None:
    assert reportable_period(ano, mes, now=NOW) == Period(ano, mes)


@pytest.mark.parametrize(
    ("ano", "mes", "field", "reason"),
    [
        (2026, 0, "mes", "unknown_month"),
        (2026, 13, "mes", "unknown_month"),
        (1999, 12, "ano", "too_early"),
        (2026, 4, "mes", "in_the_future"),
        (2027, 1, "mes", "in_the_future"),
    ],
)
def test_other_months_are_refused_with_a_reason(
    ano: int, mes: int, field: str, reason: str
) -> None:
    with pytest.raises(PeriodError) as caught:
        reportable_period(ano, mes, now=NOW)

    assert (caught.value.field, caught.value.reason) == (field, reason)
