"""The overview: what a mentee's dashboard shows, computed from the reported months alone."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from dashboard.months import Goals, Month, MonthFeedback, Report, read_report
from dashboard.numbers import growth_percent, half_up, mean, percent_of_goal
from dashboard.score import score
from shapes import Moment

GOAL_LABELS = {
    "faturamento": "Faturamento",
    "leads": "Leads",
    "procedimentos": "Procedimentos",
    "posts": "Posts",
    "stories": "Stories",
}


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal and how far the newest month came; `percent` is whole and at most 150."""

    key: str
    label: str
    value: int
    goal: int
    percent: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The numbers of a dashboard; money in whole reais, `growth_percent` None where undefined."""

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

    @property
    def newest(self) -> Month | None:
        """The last reported month."""
        return self.months[-1] if self.months else None

    @property
    def gain(self) -> int | None:
        """What came in above the first month of the window, added up, in whole reais.

        It is what the mentorship has brought so far, without a guess at its price. None with fewer
        than two months.
        """
        count = len(self.months)
        return self.total_revenue - count * self.months[0].faturamento if count > 1 else None


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
    """The overview as the API shows it."""

    financials: Financials
    score: int
    goals: list[Goal]
    feedback: MonthFeedback | None
    as_of: Moment
    read_only: bool


def read_overview(
    session: Session, mentorado_id: int, *, now: datetime, owner_id: int | None = None
) -> Overview:
    """Read and compute one mentee's overview; raises as `read_report` does."""
    return compute_overview(read_report(session, mentorado_id, owner_id=owner_id), now=now)


def compute_overview(report: Report, *, now: datetime) -> Overview:
    """Compute the overview of CONTRACT section 4.4; with nothing reported it is all zeros."""
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
        goals=_goals(newest, report.goals),
        feedback=report.feedback,
        as_of=now,
        read_only=report.is_read_only,
    )


def overview_shape(overview: Overview) -> OverviewShape:
    """The overview, ready to be told."""
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


def _goals(newest: Month | None, own: Goals) -> tuple[Goal, ...]:
    targets = newest.goals if newest else own
    return tuple(
        _goal(key, getattr(newest, key) if newest else 0, getattr(targets, key))
        for key in GOAL_LABELS
    )


def _goal(key: str, value: int, target: int) -> Goal:
    return Goal(key, GOAL_LABELS[key], value, target, half_up(percent_of_goal(value, target)))


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
