"""The score of a month: how near the mentee came to the goals, from 0 to 150."""

from fractions import Fraction

from dashboard.months import Month
from dashboard.numbers import half_up, mean, percent_of_goal

REVENUE_WEIGHT = Fraction(4, 10)
REACH_WEIGHT = Fraction(2, 10)
CLIENTS_WEIGHT = Fraction(2, 10)


def score(month: Month) -> int:
    """Add up the rounded parts, as CONTRACT section 4.4 defines them."""
    goals = month.goals
    revenue = percent_of_goal(month.faturamento, goals.faturamento)
    reach = mean(
        [percent_of_goal(month.posts, goals.posts), percent_of_goal(month.stories, goals.stories)]
    )
    clients = mean(
        [
            percent_of_goal(month.leads, goals.leads),
            percent_of_goal(month.procedimentos, goals.procedimentos),
        ]
    )
    return (
        half_up(REVENUE_WEIGHT * revenue)
        + half_up(REACH_WEIGHT * reach)
        + half_up(CLIENTS_WEIGHT * clients)
    )
