"""The work list of a month: filters, orders, counts and pages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.orm import Session

from dashboard.mentoring import (
    LARGEST_GOAL,
    WorkFilter,
    WorkItem,
    WorkOrder,
    count_work,
    list_work,
)
from dashboard.months import Goals, Month
from dashboard.periods import Period, working_period
from dashboard.score import score
from models import Feedback, Mentorado, MetricaMensal, User
from models.people import SimNao, Turma
from tests.support.users import NOW

MARCH = Period(2026, 3)
FIGURES = ("faturamento", "posts_feed", "stories", "leads", "procedimentos")


def add_mentee(session: Session, name: str, **columns: Any) -> Mentorado:
    profile = Mentorado(nome_completo=name, turma=Turma.NEON, **columns)
    session.add(profile)
    session.flush()  # months and feedback need the id
    return profile


def add_month(session: Session, profile: Mentorado, mes: int, *figures: int, **goals: int) -> None:
    values = dict(zip(FIGURES, figures, strict=True))
    session.add(MetricaMensal(mentorado_id=profile.id, ano=2026, mes=mes, **values, **goals))


@pytest.fixture
def mentees(session: Session) -> None:
    """Four active mentees, each of which lacks something else, and an inactive one."""
    users = [User(clerk_id=f"user_{n}", last_signed_in=NOW - timedelta(days=n)) for n in range(4)]
    session.add_all(users)
    session.flush()  # profiles need the ids
    elida = add_mentee(session, "Élida Melo", user_id=users[0].id, email="elida@example.com")
    ana = add_mentee(session, "ana lima", user_id=users[1].id)
    zoe = add_mentee(session, "Zoé Prado", user_id=users[2].id)
    add_mentee(session, "Bia Nunes")
    gone = add_mentee(session, "Fora", user_id=users[3].id, ativo=SimNao.NAO)
    add_month(session, elida, 2, 8_000, 6, 30, 25, 5)  # 40 points
    add_month(session, elida, 3, 16_000, 12, 60, 50, 10)  # 80
    add_month(session, ana, 3, 0, 12, 0, 0, 0)  # 10
    add_month(session, gone, 3, 0, 0, 0, 0, 0)
    for profile in (elida, zoe, gone):
        texts = {"analise_mes": "a", "foco_proximo_mes": "b", "sugestao_mentor": "c"}
        session.add(Feedback(mentorado_id=profile.id, ano=2026, mes=3, **texts))
    session.commit()


def names(items: list[WorkItem]) -> list[str]:
    return [item.name.split()[0] for item in items]


@pytest.mark.usefixtures("mentees")
def test_list_has_active_mentees_by_name_without_regard_to_accents_and_case(
    session: Session,
) -> None:
    items = list_work(session, MARCH, limit=10)

    assert names(items) == ["ana", "Bia", "Élida", "Zoé"]
    assert [(item.has_metrics, item.score, item.change, item.has_feedback) for item in items] == [
        (True, 10, None, False),
        (False, None, None, False),
        (True, 80, 40, True),
        (False, None, None, True),
    ]
    assert items[1].last_visit is None
    assert items[2].last_visit == NOW


@pytest.mark.usefixtures("mentees")
@pytest.mark.parametrize(
    ("work_filter", "expected"),
    [
        (WorkFilter.NO_METRICS, ["Bia", "Zoé"]),
        (WorkFilter.NO_FEEDBACK, ["ana", "Bia"]),
        (WorkFilter.NO_ACCESS, ["Bia"]),
        (WorkFilter.LOW_SCORE, ["ana"]),
    ],
)
def test_filters_find_who_needs_work(
    session: Session, work_filter: WorkFilter, expected: list[str]
) -> None:
    items = list_work(session, MARCH, work_filter=work_filter, limit=10)

    assert names(items) == expected
    assert count_work(session, MARCH)[work_filter] == len(expected)


@pytest.mark.usefixtures("mentees")
def test_counts_leave_out_inactive_mentees(session: Session) -> None:
    assert list(count_work(session, MARCH).values()) == [4, 2, 2, 1, 1]


@pytest.mark.usefixtures("mentees")
@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (WorkOrder.NAME, ["ana", "Bia", "Élida", "Zoé"]),
        (WorkOrder.SCORE, ["ana", "Élida", "Zoé", "Bia"]),
        (WorkOrder.LAST_VISIT, ["Bia", "Zoé", "ana", "Élida"]),
    ],
)
def test_pages_continue_in_every_order(
    session: Session, order: WorkOrder, expected: list[str]
) -> None:
    listed: list[WorkItem] = []

    while page := list_work(
        session, MARCH, order=order, after=listed[-1].position if listed else None, limit=1
    ):
        listed += page

    assert names(listed) == expected


goal = st.one_of(st.integers(0, 300), st.integers(0, LARGEST_GOAL))
figure = st.one_of(st.integers(0, 500), st.integers(0, 2**31 - 1))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    figures=st.tuples(*[figure] * 5),
    own=st.tuples(*[st.none() | goal] * 5),
    profile_goals=st.tuples(*[goal] * 5),
)
def test_score_in_sql_equals_the_score_of_the_dashboard(
    session: Session,
    figures: tuple[int, ...],
    own: tuple[int | None, ...],
    profile_goals: tuple[int, ...],
) -> None:
    session.execute(delete(Mentorado))
    columns = ("meta_faturamento", "meta_posts", "meta_stories", "meta_leads", "meta_procedimentos")
    profile = add_mentee(session, "Ana", **dict(zip(columns, profile_goals, strict=True)))
    month = MetricaMensal(
        mentorado_id=profile.id,
        ano=2026,
        mes=3,
        **dict(zip(FIGURES, figures, strict=True)),
        **dict(zip(columns, own, strict=True)),
    )
    session.add(month)
    session.flush()  # the list reads the rows

    [item] = list_work(session, MARCH, limit=2)

    revenue, posts, stories, leads, procedures = figures
    goals = [b if a is None else a for a, b in zip(own, profile_goals, strict=True)]
    in_force = Goals(goals[0], goals[3], goals[4], goals[1], goals[2])
    values = Month(2026, 3, revenue, 0, leads, procedures, posts, stories, in_force)
    assert item.score == score(values)


@pytest.mark.parametrize(
    ("day", "expected"), [(1, Period(2026, 2)), (10, Period(2026, 2)), (11, Period(2026, 3))]
)
def test_until_the_tenth_mentors_work_on_the_month_before(day: int, expected: Period) -> None:
    assert working_period(datetime(2026, 3, day, 12, tzinfo=UTC)) == expected
