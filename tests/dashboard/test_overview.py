"""The arithmetic of the overview, with the numbers of docs/reference/contract.md."""

from dataclasses import asdict, replace
from datetime import UTC, datetime

import pytest

from dashboard.months import (
    AddressState,
    FeedbackMonth,
    GoalChange,
    Goals,
    Month,
    MonthFeedback,
    ReceivedFeedback,
    Report,
    StoredReport,
    report_from_text,
    report_to_text,
)
from dashboard.periods import Period
from dashboard.score import OverviewShape, compute_overview, growth_percent
from tests.support.months import DEFAULT_GOALS, month
from tests.support.users import NOW

NO_FINANCIALS: dict[str, object] = {
    "totalRevenue": 0,
    "totalProfit": 0,
    "averageRevenue": 0,
    "growthPercent": None,
    "chartData": [],
}


def overview_of(
    *months: Month, own: Goals = DEFAULT_GOALS, feedback: MonthFeedback | None = None
) -> OverviewShape:
    received = (received_of(feedback),) if feedback else ()
    return compute_overview(Report(months, own, received=received), now=NOW)


def received_of(texts: MonthFeedback) -> ReceivedFeedback:
    return ReceivedFeedback(texts, NOW, None, is_new=False, is_focus_done=False)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(100, 150, 50), (200, 100, -50), (200, 201, 1), (200, 199, 0), (7, 7, 0), (9, 0, -100)],
)
def test_growth_is_relative_to_the_first_value(first: int, last: int, expected: int) -> None:
    assert growth_percent(first, last) == expected


def test_growth_from_zero_is_undefined() -> None:
    assert growth_percent(0, 500) is None


def test_overview_without_months_is_zero() -> None:
    serialized = overview_of()

    assert serialized["financials"] == NO_FINANCIALS
    assert (serialized["score"], serialized["feedback"], serialized["read_only"]) == (
        0,
        None,
        False,
    )


def test_overview_without_months_has_the_profiles_goals() -> None:
    goals = overview_of()["goals"]

    assert [(g.key, g.value, g.goal, g.percent) for g in goals] == [
        ("faturamento", 0, 16000, 0),
        ("leads", 0, 50, 0),
        ("procedimentos", 0, 10, 0),
        ("posts", 0, 12, 0),
        ("stories", 0, 60, 0),
    ]


def test_revenue_and_profit_are_sums_of_all_months() -> None:
    financials = overview_of(month(100, lucro=40, mes=1), month(50, lucro=20, mes=2))["financials"]

    assert financials["totalRevenue"] == 150
    assert financials["totalProfit"] == 60


def test_loss_of_a_month_reduces_the_total_profit_only() -> None:
    financials = overview_of(month(100, lucro=40, mes=1), month(50, lucro=-90, mes=2))["financials"]

    assert financials["totalRevenue"] == 150
    assert financials["totalProfit"] == -50
    assert financials["averageRevenue"] == 75
    assert financials["growthPercent"] == -50


def test_loss_changes_neither_score_nor_goals() -> None:
    gain, loss = (overview_of(month(16_000, 12, 60, 50, 10, lucro=n)) for n in (9_000, -9_000))

    assert (loss["score"], loss["goals"]) == (gain["score"], gain["goals"])


@pytest.mark.parametrize(
    ("revenues", "expected"), [((1, 2), 2), ((1, 1, 2), 1), ((2, 3), 3)], ids=str
)
def test_average_revenue_is_rounded_half_up(revenues: tuple[int, ...], expected: int) -> None:
    overview = overview_of(*(month(revenue) for revenue in revenues))

    assert overview["financials"]["averageRevenue"] == expected


@pytest.mark.parametrize(
    ("revenues", "expected"),
    [((100,), None), ((0, 100), None), ((100, 0), -100), ((100, 900, 150), 50), ((8, 8), 0)],
    ids=str,
)
def test_growth_compares_the_last_month_with_the_first(
    revenues: tuple[int, ...], expected: int | None
) -> None:
    overview = overview_of(*(month(revenue) for revenue in revenues))

    assert overview["financials"]["growthPercent"] == expected


def test_score_and_goals_are_those_of_the_newest_month() -> None:
    overview = overview_of(month(mes=1), month(8000, 6, 30, 25, 5, mes=2))

    assert (overview["score"], overview["financials"]["chartData"][-1]["mes"]) == (40, 2)
    assert [goal.value for goal in overview["goals"]] == [8000, 25, 5, 6, 30]


def test_goals_of_the_month_take_precedence_over_the_profiles() -> None:
    reported = month(500, 1, 2, 3, 4, goals=Goals(1000, 6, 16, 10, 8))

    overview = overview_of(reported)

    assert [goal.goal for goal in overview["goals"]] == [1000, 6, 16, 10, 8]
    assert [goal.percent for goal in overview["goals"]] == [50, 50, 25, 10, 25]


@pytest.mark.parametrize(
    ("revenue", "percent"),
    [(80, 1), (79, 0), (23919, 149), (23999, 150), (24000, 150), (99999, 150)],
)
def test_serialized_percent_is_whole_and_at_most_150(revenue: int, percent: int) -> None:
    overview = overview_of(month(revenue))

    assert overview["goals"][0].percent == percent


def test_every_goal_has_its_label() -> None:
    serialized = overview_of()

    labels = [goal.label for goal in serialized["goals"]]
    assert labels == ["Faturamento", "Leads", "Procedimentos", "Posts", "Stories"]


def test_chart_data_uses_the_public_names() -> None:
    serialized = overview_of(month(1, 5, 6, 3, 4, mes=3, lucro=2))

    assert serialized["financials"]["chartData"] == [
        {"ano": 2026, "mes": 3, "faturamento": 1, "lucro": 2}
        | {"leads": 3, "procedimentos": 4, "postsFeed": 5, "stories": 6}
    ]


def test_serialized_feedback_has_its_month_and_no_ids() -> None:
    texts = {"analise_mes": "Bom.", "foco_proximo_mes": "Leads.", "sugestao_mentor": "Siga."}
    feedback = MonthFeedback(2026, 2, **texts)

    serialized = overview_of(feedback=feedback)

    assert asdict(serialized["feedback"] or feedback) == {"ano": 2026, "mes": 2, **texts}


def test_as_of_is_the_given_time_in_utc() -> None:
    now = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)

    serialized = compute_overview(Report((), DEFAULT_GOALS), now=now)

    assert serialized["as_of"] == "2026-03-10T12:30:00Z"


def test_report_survives_serialization_to_text() -> None:
    feedback = MonthFeedback(2026, 2, "Bom mês.", "Leads.", "Ligue mais.")
    received = ReceivedFeedback(feedback, NOW, "Davi", is_new=True, is_focus_done=False)
    report = Report(
        (replace(month(9_000), reported_at=NOW, missing=("lucro",)), month(8_000, mes=2)),
        DEFAULT_GOALS,
        received=(received,),
        feedback_months=(FeedbackMonth(Period(2026, 2), is_new=True),),
        goal_change=GoalChange(DEFAULT_GOALS, NOW),
        address=AddressState(has_email=True, is_verified=False),
    )

    stored = report_from_text(report_to_text(StoredReport(report, NOW)))

    assert stored == StoredReport(replace(report, is_read_only=True), NOW)


def test_report_until_a_month_ends_with_it() -> None:
    received = tuple(received_of(MonthFeedback(2026, mes, "A", "F", "S")) for mes in (1, 2))
    report = Report((month(mes=1), month(mes=2)), DEFAULT_GOALS, received=received)

    january = report.until(Period(2026, 1))

    assert [each.mes for each in january.months] == [1]
    assert january.received == received[:1]
    assert compute_overview(january, now=NOW)["feedback"] == received[0].texts
