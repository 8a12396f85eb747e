"""The view of a month: changes, pace, what is due, and the streak."""

from datetime import UTC, datetime

import pytest

from dashboard.month_view import (
    Change,
    ClosingTask,
    Pace,
    SinceFirst,
    closing_task,
    compare,
    count_streak,
    view_month,
)
from dashboard.months import Goals, Month, MonthFeedback, ReceivedFeedback, Report
from dashboard.periods import Period
from models.people import FIGURES
from tests.support.users import NOW

GOALS = Goals(faturamento=16_000, leads=50, procedimentos=10, posts=12, stories=60)
LONG_AGO = datetime(2025, 1, 5, tzinfo=UTC)


def month(mes: int, ano: int = 2026, **values: object) -> Month:
    figures = dict.fromkeys(("faturamento", "lucro", "leads", "procedimentos"), 10)
    all_values: dict[str, object] = {**figures, "posts": 1, "stories": 1, "goals": GOALS, **values}
    return Month(ano=ano, mes=mes, **all_values)  # type: ignore[arg-type] # fields of a month


def report_of(*months: Month, feedback_on: tuple[int, ...] = ()) -> Report:
    received = tuple(
        ReceivedFeedback(
            MonthFeedback(2026, mes, "A", "F", "S"), NOW, None, is_new=False, is_focus_done=False
        )
        for mes in feedback_on
    )
    return Report(months, GOALS, received=received)


@pytest.mark.parametrize(
    ("value", "before", "change"),
    [
        (118, 100, Change(18, 18)),
        (90, 100, Change(-10, -10)),
        (100, 100, Change(0, None)),
        (0, 100, Change(-100, -100)),
        (5, 0, Change(5, None)),
        (0, 0, Change(0, None)),
        (1_001, 1_000, Change(1, None)),
        (1_099, 100, Change(999, 999)),
        (1_100, 100, Change(1_000, None)),
        (-5, 100, Change(-105, None)),
        (5, -100, Change(105, None)),
    ],
)
def test_change_has_a_percentage_where_it_says_more_than_the_amount(
    value: int, before: int, change: Change
) -> None:
    assert compare(value, before) == change


def test_view_without_a_period_is_the_newest_month() -> None:
    view = view_month(report_of(month(1), month(2)), None, now=NOW)

    assert (view.period, view.previous) == (Period(2026, 2), month(1))


def test_view_of_a_mentee_without_months_is_the_running_month() -> None:
    view = view_month(report_of(), None, now=NOW)

    assert (view.period, view.month, view.score) == (Period(2026, 3), None, None)
    assert [progress.goal.goal for progress in view.goals] == [16_000, 50, 10, 12, 60]


@pytest.mark.parametrize(
    ("revenues", "expected"),
    [((0, 100), (None, 100)), ((100, 130, 90), (-10, 20)), ((100, 50), (-50, -50))],
    ids=str,
)
def test_last_month_is_compared_with_the_first(
    revenues: tuple[int, ...], expected: tuple[int | None, int]
) -> None:
    months = [month(mes, faturamento=value) for mes, value in enumerate(revenues, 1)]

    since = view_month(report_of(*months), None, now=NOW).since_first

    assert since is not None
    assert (since.first, since.months) == (months[0], len(revenues))
    assert (since.growth_percent, since.gain) == expected


@pytest.mark.parametrize(
    "months",
    [
        (),
        (month(1),),
        (month(1, missing=("faturamento",)), month(2)),
        (month(1), month(2), month(3, missing=("faturamento",))),
    ],
)
def test_without_two_revenues_there_is_no_first_to_compare_with(months: tuple[Month, ...]) -> None:
    assert view_month(report_of(*months), None, now=NOW).since_first is None


def test_months_without_a_revenue_are_left_out_of_the_comparison() -> None:
    months = [
        month(1, missing=("faturamento",), faturamento=0),
        month(2, faturamento=100),
        month(3, missing=("faturamento",), faturamento=0),
        month(4, faturamento=150),
    ]

    since = view_month(report_of(*months), None, now=NOW).since_first

    assert since == SinceFirst(months[1], 2, growth_percent=50, gain=50)


def test_only_the_month_before_in_the_calendar_is_compared() -> None:
    view = view_month(report_of(month(12, 2025), month(2)), None, now=NOW)

    assert (view.previous, view.changes) == (None, {})


def test_only_the_running_month_has_a_pace() -> None:
    report = report_of(month(2), month(3))

    running, closed = (view_month(report, Period(2026, mes), now=NOW) for mes in (3, 2))

    assert (running.pace, closed.pace) == (Pace(21, 322), None)


def test_pace_follows_the_calendar_of_brasilia() -> None:
    last_evening = datetime(2026, 4, 1, 2, 0, tzinfo=UTC)

    view = view_month(report_of(month(3)), None, now=last_evening)

    assert view.pace == Pace(0, 1_000)


def test_goal_is_on_pace_if_its_part_is_that_of_the_days() -> None:
    on_pace, behind = (
        view_month(report_of(month(3, leads=leads)), None, now=NOW).goals[1] for leads in (17, 16)
    )

    assert (on_pace.is_on_pace, on_pace.remaining) == (True, 33)
    assert (behind.is_on_pace, behind.remaining) == (False, 34)


def test_feedback_of_a_chosen_month_is_its_own_and_otherwise_the_newest() -> None:
    report = report_of(month(1), feedback_on=(1, 2))

    chosen = view_month(report.until(Period(2026, 1)), Period(2026, 1), now=NOW)
    without = view_month(report, Period(2026, 3), now=NOW)
    newest = view_month(report_of(month(1), feedback_on=(2,)), None, now=NOW)

    assert [each.feedback and each.feedback.period.mes for each in (chosen, without, newest)] == [
        1,
        None,
        2,
    ]
    assert without.focus is not None
    assert without.focus.period == Period(2026, 2)


def test_last_month_is_due_until_it_has_all_figures() -> None:
    half = report_of(month(2, missing=("leads", "stories")))

    assert closing_task(report_of(), LONG_AGO, now=NOW) == ClosingTask(Period(2026, 2), FIGURES, 0)
    task = closing_task(half, LONG_AGO, now=NOW)
    assert task is not None
    assert (task.given, task.missing) == (4, ("leads", "stories"))
    assert closing_task(report_of(month(2)), LONG_AGO, now=NOW) is None


def test_no_month_is_due_before_the_mentee_has_joined() -> None:
    assert closing_task(report_of(), NOW, now=NOW) is None
    assert closing_task(report_of(month(3)), NOW, now=NOW) is None
    assert closing_task(report_of(month(1)), NOW, now=NOW) is not None


def in_time(mes: int, ano: int = 2026) -> Month:
    following = Period(ano, mes).next
    return month(mes, ano, reported_at=datetime(following.ano, following.mes, 10, tzinfo=UTC))


def late(mes: int) -> Month:
    return month(mes, reported_at=datetime(2026, mes + 1, 11, 3, tzinfo=UTC))


@pytest.mark.parametrize(
    ("months", "streak"),
    [
        ((), 0),
        ((in_time(12, 2025), in_time(1), in_time(2)), 3),
        ((in_time(1), in_time(2), month(3)), 2),  # the running month does not count yet
        ((in_time(12, 2025), in_time(1)), 2),  # February can still be reported today
        ((in_time(12, 2025),), 0),
        ((in_time(12, 2025), late(1), in_time(2)), 1),
        ((in_time(1), month(2)), 0),  # without a known time
    ],
)
def test_streak_counts_months_reported_by_their_closing_day(
    months: tuple[Month, ...], streak: int
) -> None:
    assert count_streak(months, now=NOW) == streak


def test_streak_ends_when_the_closing_day_of_a_missing_month_is_over() -> None:
    day_11 = datetime(2026, 3, 11, 3, tzinfo=UTC)

    assert count_streak((in_time(12, 2025), in_time(1)), now=day_11) == 0
