"""The measures, goals and score of a month, and the overview of the JSON API.

Rules: `docs/reference/contract.md#overview-and-score`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Any, cast

from typing_extensions import TypedDict

from core.types import Timestamp
from dashboard.months import Goals, Month, MonthFeedback, Report
from provisioning.context import iso_utc

PERCENT_CAP = 150  # results above one and a half times a goal do not count
MOST_SUGGESTIONS = 2
REVENUE, PROFIT = "faturamento", "lucro"
MONEY = (REVENUE, PROFIT)  # the measures in reais
# The measures of a month, each by its name in `Month`.
MEASURES = {
    REVENUE: "Faturamento",
    PROFIT: "Lucro",
    "leads": "Leads",
    "procedimentos": "Procedimentos",
    "posts": "Posts",
    "stories": "Stories",
}
GOAL_LABELS = {key: label for key, label in MEASURES.items() if key != PROFIT}


def half_up(value: Fraction) -> int:
    """Round to the nearest whole number, a half always up."""
    return (value + Fraction(1, 2)).__floor__()


def percent_of_goal(value: int, goal: int) -> Fraction:
    """Return how much of a goal is reached in percent, at most 150; 0 if no goal is set."""
    if goal <= 0:
        return Fraction(0)
    return min(Fraction(100 * value, goal), Fraction(PERCENT_CAP))


def mean(values: Sequence[Fraction | int]) -> Fraction:
    """Return the arithmetic mean; 0 for no values."""
    return Fraction(sum(values), len(values)) if values else Fraction(0)


def growth_percent(first: int, last: int) -> int | None:
    """Return the growth from the first to the last month in percent; None if the first is zero."""
    return half_up(Fraction(100 * (last - first), first)) if first else None


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal and the result of a month; `percent` is whole and at most 150."""

    key: str
    label: str
    value: int
    goal: int
    percent: int


def goals_of(month: Month | None, profile_goals: Goals) -> tuple[Goal, ...]:
    """Return the goals of a month, or the profile's goals of one that was not reported."""
    targets, goals = month.goals if month else profile_goals, []
    for key, label in GOAL_LABELS.items():
        value, target = getattr(month, key) if month else 0, getattr(targets, key)
        goals.append(Goal(key, label, value, target, half_up(percent_of_goal(value, target))))
    return tuple(goals)


@dataclass(frozen=True, slots=True)
class PartRule:
    """A part of the score: the mean of its measures in percent; `full` points for 100 percent."""

    label: str
    measures: tuple[str, ...]
    full: int


PARTS = (
    PartRule("Faturamento", ("faturamento",), 40),
    PartRule("Conteúdo (posts e stories)", ("posts", "stories"), 20),
    PartRule("Clientes (leads e procedimentos)", ("leads", "procedimentos"), 20),
)


@dataclass(frozen=True, slots=True)
class ScorePart:
    """The rounded points of one part, and the points for meeting its goals."""

    label: str
    points: int
    full: int


@dataclass(frozen=True, slots=True)
class ScoreSuggestion:
    """How much more of one measure earns how many points, and its share of the goal."""

    measure: str
    amount: int
    points: int
    share_of_goal: Fraction


def score_parts(month: Month) -> tuple[ScorePart, ...]:
    """Return the parts of the score of a month."""
    return tuple(ScorePart(rule.label, _points(rule, month), rule.full) for rule in PARTS)


def score(month: Month) -> int:
    """Return the sum of the rounded parts."""
    return sum(_points(rule, month) for rule in PARTS)


def best_suggestions(month: Month) -> tuple[ScoreSuggestion, ...]:
    """Return at most two measures that earn points with the least share of their goals."""
    suggestions = (_suggestion(rule, measure, month) for rule in PARTS for measure in rule.measures)
    found = sorted(filter(None, suggestions), key=lambda each: each.share_of_goal)
    return tuple(found[:MOST_SUGGESTIONS])


def _points(rule: PartRule, month: Month) -> int:
    percents = [_percent(month, measure) for measure in rule.measures]
    return half_up(mean(percents) * rule.full / 100)


def _percent(month: Month, measure: str) -> Fraction:
    return percent_of_goal(getattr(month, measure), getattr(month.goals, measure))


def _suggestion(rule: PartRule, measure: str, month: Month) -> ScoreSuggestion | None:
    """Return the least amount of a measure that earns a point; None where none can be earned."""
    goal: int = getattr(month.goals, measure)
    if goal <= 0:
        return None
    points = _points(rule, month)
    # The next point needs this mean, and this measure everything that the others do not reach.
    needed_mean = (points + Fraction(1, 2)) * 100 / rule.full
    others = sum(_percent(month, other) for other in rule.measures if other != measure)
    needed = needed_mean * len(rule.measures) - others
    if needed > PERCENT_CAP:
        return None
    value: int = getattr(month, measure)
    amount = -(-needed * goal // 100) - value
    more: dict[str, Any] = {measure: value + amount}
    gained = _points(rule, replace(month, **more)) - points
    return ScoreSuggestion(measure, amount, gained, Fraction(amount, goal))


class ChartPoint(TypedDict):
    """A month in the chart."""

    ano: int
    mes: int
    faturamento: int
    lucro: int
    leads: int
    procedimentos: int
    postsFeed: int
    stories: int


class Financials(TypedDict):
    """Money in whole reais; the growth is null with fewer than two months."""

    totalRevenue: int
    totalProfit: int
    averageRevenue: int
    growthPercent: int | None
    chartData: list[ChartPoint]


class OverviewShape(TypedDict):
    """The JSON form of an overview."""

    financials: Financials
    score: int
    goals: list[Goal]
    feedback: MonthFeedback | None
    as_of: Timestamp
    read_only: bool


def compute_overview(report: Report, *, now: datetime) -> OverviewShape:
    """Compute the overview of a report; without reported months its numbers are zero."""
    months = report.months
    revenues = [month.faturamento for month in months]
    newest = months[-1] if months else None
    return {
        "financials": {
            "totalRevenue": sum(revenues),
            "totalProfit": sum(month.lucro for month in months),
            "averageRevenue": half_up(mean(revenues)),
            "growthPercent": growth_percent(revenues[0], revenues[-1]) if revenues[1:] else None,
            "chartData": [_chart_point(month) for month in months],
        },
        "score": score(newest) if newest else 0,
        "goals": list(goals_of(newest, report.goals)),
        "feedback": report.received[-1].texts if report.received else None,
        "as_of": iso_utc(now),
        "read_only": report.is_read_only,
    }


def _chart_point(month: Month) -> ChartPoint:
    attributes = {name: name for name in ChartPoint.__annotations__} | {"postsFeed": "posts"}
    return cast(ChartPoint, {key: getattr(month, name) for key, name in attributes.items()})
