"""One month of a mentee as the dashboard shows it: figures, goals, score, feedback and pace."""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from dashboard.months import Month, ReceivedFeedback, Report
from dashboard.periods import BRASILIA, Period, current_period
from dashboard.score import (
    MEASURES,
    REVENUE,
    Goal,
    ScorePart,
    ScoreSuggestion,
    best_suggestions,
    goals_of,
    growth_percent,
    half_up,
    score,
    score_parts,
)
from models.people import FIGURES

MAX_PERCENT = 999  # a larger change is given as an amount, because the month before was small
THOUSANDTHS = 1_000


@dataclass(frozen=True, slots=True)
class Change:
    """The difference from the month before; `percent` is None where an amount says more."""

    difference: int
    percent: int | None


@dataclass(frozen=True, slots=True)
class GoalProgress:
    """A goal of the month; `remaining` is what is left to do, `change` the one from last month.

    `is_on_pace` tells, in the running month, whether the part done is at least the part of the days
    that have passed.
    """

    goal: Goal
    change: Change | None
    remaining: int
    is_on_pace: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """How far the running month is: days left after today, and the part passed in thousandths."""

    days_left: int
    passed: int


@dataclass(frozen=True, slots=True)
class Score:
    """The points of a month, how they come about, and what would earn more."""

    points: int
    change: Change | None
    parts: tuple[ScorePart, ...]
    suggestions: tuple[ScoreSuggestion, ...]


@dataclass(frozen=True, slots=True)
class SinceFirst:
    """The last month of a report against its first one, of the months whose revenue was given.

    `gain` is the revenue above that of the first month, summed up, in whole reais. `growth_percent`
    is None if the first month's revenue is zero.
    """

    first: Month
    months: int
    growth_percent: int | None
    gain: int


@dataclass(frozen=True, slots=True)
class MonthView:
    """One month. `month` is None if it was not reported; `previous` is the calendar month before.

    `changes` holds the change of each measure whose figure both months have.
    `since_first` is None without two revenues up to this month. `focus` is the feedback on the
    month before, whose focus is meant for this one. `pace` is None unless the month is running.
    """

    period: Period
    month: Month | None
    previous: Month | None
    changes: Mapping[str, Change]
    since_first: SinceFirst | None
    goals: tuple[GoalProgress, ...]
    score: Score | None
    pace: Pace | None
    feedback: ReceivedFeedback | None
    focus: ReceivedFeedback | None


@dataclass(frozen=True, slots=True)
class ClosingTask:
    """The last month while figures of it are missing; `days_left` is None after the closing day."""

    period: Period
    missing: tuple[str, ...]
    days_left: int | None

    @property
    def given(self) -> int:
        """The number of figures that the mentee has given."""
        return len(FIGURES) - len(self.missing)


def view_month(report: Report, period: Period | None, *, now: datetime) -> MonthView:
    """Return the view of a month; None means the newest reported one, or the current month."""
    current, months = current_period(now), report.months
    shown = period or (months[-1].period if months else current)
    by_period = {month.period: month for month in months}
    month, previous = by_period.get(shown), by_period.get(shown.previous)
    changes = {
        key: compare(getattr(month, key), getattr(previous, key))
        for key in MEASURES
        if month and previous and month.has(key) and previous.has(key)
    }
    pace = None
    if shown == current:
        day, days = now.astimezone(BRASILIA).day, monthrange(shown.ano, shown.mes)[1]
        pace = Pace(days - day, day * THOUSANDTHS // days)
    goals = []
    for goal in goals_of(month, report.goals):
        is_on_pace = pace is not None and goal.value * THOUSANDTHS >= goal.goal * pace.passed
        remaining = max(goal.goal - goal.value, 0)
        goals.append(GoalProgress(goal, changes.get(goal.key), remaining, is_on_pace))
    feedbacks = {each.period: each for each in report.received}
    newest_feedback = report.received[-1] if report.received and period is None else None
    return MonthView(
        period=shown,
        month=month,
        previous=previous,
        changes=changes,
        since_first=_since_first(months),
        goals=tuple(goals),
        score=_score(month, previous) if month else None,
        pace=pace,
        feedback=feedbacks.get(shown, newest_feedback),
        focus=feedbacks.get(shown.previous),
    )


def closing_task(report: Report, joined_at: datetime, *, now: datetime) -> ClosingTask | None:
    """Return the month before the current one as a task while figures of it are missing.

    A mentee who has joined in the current month and has reported no earlier one has no such task.
    """
    current = current_period(now)
    period = current.previous
    month = next((month for month in report.months if month.period == period), None)
    has_begun = current_period(joined_at) < current or any(
        each.period <= period for each in report.months
    )
    missing = month.missing if month else FIGURES
    if not missing or not has_begun:
        return None
    seconds_left = (period.closes_at - now).total_seconds()
    return ClosingTask(period, missing, int(seconds_left // 86_400) if seconds_left > 0 else None)


def count_streak(months: Sequence[Month], *, now: datetime) -> int:
    """Return how many months in a row were reported by their closing day, up to the last one.

    The last month breaks the streak only after its closing day.
    """
    by_period = {month.period: month for month in months}
    period = current_period(now).previous
    if period not in by_period and now < period.closes_at:
        period = period.previous
    count = 0
    while (month := by_period.get(period)) and month.reported_at is not None:
        if month.reported_at >= period.closes_at:
            break
        count += 1
        period = period.previous
    return count


def compare(value: int, before: int) -> Change:
    """Return the change; without a percentage if it is zero, huge, or relative to no gain."""
    difference = value - before
    percent = half_up(Fraction(100 * difference, before)) if before > 0 and value >= 0 else 0
    return Change(difference, percent if 0 < abs(percent) <= MAX_PERCENT else None)


def _score(month: Month, previous: Month | None) -> Score:
    points = score(month)
    change = Change(points - score(previous), None) if previous else None
    return Score(points, change, score_parts(month), best_suggestions(month))


def _since_first(months: Sequence[Month]) -> SinceFirst | None:
    """Return the comparison; None without two revenues, or without that of the last month."""
    given = [month for month in months if month.has(REVENUE)]
    if len(given) < 2 or given[-1] != months[-1]:
        return None
    first, last = given[0], given[-1]
    gain = sum(month.faturamento for month in given) - len(given) * first.faturamento
    return SinceFirst(first, len(given), growth_percent(first.faturamento, last.faturamento), gain)
