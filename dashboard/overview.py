"""The overview of the JSON API, computed from the report; the page has `month_view.py`."""

from datetime import datetime
from fractions import Fraction

from typing_extensions import TypedDict

from core.types import Timestamp
from dashboard.months import MonthFeedback, Report
from dashboard.score import Goal, goals_of, half_up, mean, score


def growth_percent(first: int, last: int) -> int | None:
    """Return the growth from the first to the last month in percent; None if the first is zero."""
    if first == 0:
        return None
    return half_up(Fraction(100 * (last - first), first))


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
    """Compute the overview of a report; without reported months its numbers are zero.

    Rules: `docs/reference/contract.md#overview-and-score`.
    """
    months = report.months
    revenues = [month.faturamento for month in months]
    newest = months[-1] if months else None
    return {
        "financials": {
            "totalRevenue": sum(revenues),
            "totalProfit": sum(month.lucro for month in months),
            "averageRevenue": half_up(mean(revenues)),
            "growthPercent": growth_percent(revenues[0], revenues[-1]) if revenues[1:] else None,
            "chartData": [
                {
                    "ano": month.ano,
                    "mes": month.mes,
                    "faturamento": month.faturamento,
                    "lucro": month.lucro,
                    "leads": month.leads,
                    "procedimentos": month.procedimentos,
                    "postsFeed": month.posts,
                    "stories": month.stories,
                }
                for month in months
            ],
        },
        "score": score(newest) if newest else 0,
        "goals": list(goals_of(newest, report.goals)),
        "feedback": report.feedback,
        "as_of": now.isoformat().replace("+00:00", "Z"),
        "read_only": report.is_read_only,
    }
