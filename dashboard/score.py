"""The measures, goals and score of a month: its parts, and suggestions for more points.

Rules: `docs/reference/contract.md#overview-and-score`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from dashboard.months import Goals, Month

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
    return percent_of_goal(getattr(month, measure), _goal(month.goals, measure))


def _goal(goals: Goals, measure: str) -> int:
    target: int = getattr(goals, measure)
    return target


def _suggestion(rule: PartRule, measure: str, month: Month) -> ScoreSuggestion | None:
    """Return the least amount of a measure that earns a point; None where none can be earned."""
    goal = _goal(month.goals, measure)
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
