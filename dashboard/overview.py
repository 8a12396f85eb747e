"""The overview of the JSON API, computed from the report: totals, score, goals.

The page has `month_view.py`.
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from core.types import Timestamp
from dashboard.months import Month, MonthFeedback, Report, read_report
from dashboard.score import Goal, goals_of, half_up, mean, score


def growth_percent(first: int, last: int) -> int | None:
    """Return the growth from the first to the last month in percent; None if the first is zero."""
    if first == 0:
        return None
    return half_up(Fraction(100 * (last - first), first))


@dataclass(frozen=True, slots=True)
class Overview:
    """The values of an overview; money in whole reais, `growth_percent` None if undefined."""

    months: tuple[Month, ...]
    total_revenue: int
    total_profit: int
    average_revenue: int
    growth_percent: int | None
    score: int
    goals: tuple[Goal, ...]
    feedback: MonthFeedback | None
    as_of: datetime
    read_only: bool = False


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
    """The JSON form of the overview."""

    financials: Financials
    score: int
    goals: list[Goal]
    feedback: MonthFeedback | None
    as_of: Timestamp
    read_only: bool


def read_overview(
    session: Session, mentorado_id: int, *, now: datetime, owner_id: int | None = None
) -> Overview:
    """Read and compute one mentee's overview; raises as `read_report` does."""
    return compute_overview(read_report(session, mentorado_id, owner_id=owner_id), now=now)


def compute_overview(report: Report, *, now: datetime) -> Overview:
    """Compute the overview of a report; without reported months its numbers are zero.

    Rules: `docs/reference/contract.md#overview-and-score`.
    """
    months = report.months
    revenues = [month.faturamento for month in months]
    newest = months[-1] if months else None
    return Overview(
        months=months,
        total_revenue=sum(revenues),
        total_profit=sum(month.lucro for month in months),
        average_revenue=half_up(mean(revenues)),
        growth_percent=growth_percent(revenues[0], revenues[-1]) if len(revenues) > 1 else None,
        score=score(newest) if newest else 0,
        goals=goals_of(newest, report.goals),
        feedback=report.feedback,
        as_of=now,
        read_only=report.is_read_only,
    )


def serialize_overview(overview: Overview) -> OverviewShape:
    """Return the JSON form of the overview."""
    return {
        "financials": {
            "totalRevenue": overview.total_revenue,
            "totalProfit": overview.total_profit,
            "averageRevenue": overview.average_revenue,
            "growthPercent": overview.growth_percent,
            "chartData": [_chart_point(month) for month in overview.months],
        },
        "score": overview.score,
        "goals": list(overview.goals),
        "feedback": overview.feedback,
        "as_of": overview.as_of.isoformat().replace("+00:00", "Z"),
        "read_only": overview.read_only,
    }


def _chart_point(month: Month) -> ChartPoint:
    return {
        "ano": month.ano,
        "mes": month.mes,
        "faturamento": month.faturamento,
        "lucro": month.lucro,
        "leads": month.leads,
        "procedimentos": month.procedimentos,
        "postsFeed": month.posts,
        "stories": month.stories,
    }
