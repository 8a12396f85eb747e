"""Reported months of a mentee."""

from dashboard.months import Goals, Month

DEFAULT_GOALS = Goals(faturamento=16000, leads=50, procedimentos=10, posts=12, stories=60)


def month(
    faturamento: int = 0,
    posts: int = 0,
    stories: int = 0,
    leads: int = 0,
    procedimentos: int = 0,
    *,
    mes: int = 1,
    lucro: int = 0,
    goals: Goals = DEFAULT_GOALS,
) -> Month:
    """A month of 2026, with the figures in the order of the contract's vectors."""
    return Month(2026, mes, faturamento, lucro, leads, procedimentos, posts, stories, goals)
