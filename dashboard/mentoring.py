"""What mentors read and write about a month: the work list, and the feedback of one mentee.

The work list has, for each active mentee, what is reported, written and missing. A page of it is
one statement: its inner query finds the page by the key of the order, the outer one reads what is
shown of its rows.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from dashboard.goal_changes import GOAL_OF
from dashboard.periods import Period
from models import Feedback, Mentorado, MetricaMensal, User
from models.people import FIGURES, SimNao
from provisioning.admin_actions import load_profile_for_update, record_action
from provisioning.audit import Source

LOW_SCORE = 30  # points
MOST_SCORED = 5_000  # reported months whose scores are counted; more would take too long
LARGEST_GOAL = 100_000_000  # a larger one counts as this one, so that products fit in 64 bits
NEVER, LAST = -1, 1_000  # keys of rows without a value: before all visits, after all points


class WorkFilter(enum.StrEnum):
    """Which mentees need work."""

    NO_METRICS = "sem_metricas"
    NO_FEEDBACK = "sem_feedback"
    NO_ACCESS = "sem_acesso"  # no account is linked: the mentee has never signed in
    LOW_SCORE = "abaixo_de_30"
    TO_WRITE = "para_escrever"  # reported, without feedback


class WorkOrder(enum.StrEnum):
    """The order of the list; the mentees to look at come first, those without a value last."""

    NAME = "nome"
    SCORE = "pontos"
    LAST_VISIT = "acesso"


Position = tuple[str | int, int]  # the key of the order, and the profile's id
Texts = Mapping[str, str]  # the texts of a feedback by column, blank if there is none
Fraction = tuple[sa.ColumnElement[int], sa.ColumnElement[int]]  # numerator and denominator


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One mentee in one month; `score` and `change` are points, None where nothing is reported.

    `change` is the difference to the score of the month before. `key` is the item's place in the
    order of the list.
    """

    id: int
    user_id: int | None
    name: str
    email: str | None
    has_metrics: bool
    score: int | None
    change: int | None
    has_feedback: bool
    last_visit: datetime | None
    key: str | int

    @property
    def position(self) -> Position:
        """Where the next page begins."""
        return self.key, self.id


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a month, that of the month before, and the goal in force; None: not known."""

    name: str
    value: int | None
    before: int | None
    goal: int | None
    is_own_goal: bool  # set for this month, not the profile's goal


@dataclass(frozen=True, slots=True)
class MonthReview:
    """What a mentor reads while writing about a month.

    `notes` is what the mentee has written about it, `last` the newest feedback on an earlier month.
    """

    figures: tuple[Figure, ...]
    is_reported: bool
    notes: str | None
    last: Feedback | None


class EditConflictError(Exception):
    """Another request has changed the feedback since its form was read."""


def list_work(
    session: Session,
    period: Period,
    *,
    work_filter: WorkFilter | None = None,
    order: WorkOrder = WorkOrder.NAME,
    after: Position | None = None,
    limit: int,
) -> list[WorkItem]:
    """Return the next mentees after a position, in one statement."""
    keys = _keys(work_filter, order)
    key, page_id = keys.selected_columns
    if after is not None:
        keys = keys.where(sa.tuple_(key, page_id) > sa.tuple_(sa.literal(after[0]), after[1]))
    return _read_items(session, period, keys.order_by(key, page_id).limit(limit))


def read_work_item(session: Session, period: Period, mentorado_id: int) -> WorkItem | None:
    """Return the item of one mentee; None for an inactive or unknown one."""
    key = _keys(None, WorkOrder.NAME).where(Mentorado.id == mentorado_id)
    return next(iter(_read_items(session, period, key)), None)


def next_to_write(session: Session, period: Period, mentorado_id: int) -> int | None:
    """Return the next mentee by name who has reported and has no feedback, other than this one.

    After the last one the search begins again; None where no mentee is left.
    """
    current = read_work_item(session, period, mentorado_id)
    for after in (current.position if current else None, None):
        found = list_work(session, period, work_filter=WorkFilter.TO_WRITE, after=after, limit=2)
        others = [item.id for item in found if item.id != mentorado_id]
        if others:
            return others[0]
    return None


def count_work(session: Session, period: Period) -> dict[WorkFilter | None, int | None]:
    """Return how many active mentees each filter has, and how many there are, in one statement.

    The low scores are None where more than MOST_SCORED have reported.
    """
    row = session.execute(COUNTS, _parameters(period)).one()
    total, without_account, reported, written, low_score = row
    return {
        None: total,
        WorkFilter.NO_METRICS: total - reported,
        WorkFilter.NO_FEEDBACK: total - written,
        WorkFilter.NO_ACCESS: without_account,
        WorkFilter.LOW_SCORE: low_score if reported <= MOST_SCORED else None,
    }


def read_feedback(session: Session, mentorado_id: int, period: Period) -> Feedback | None:
    """Return the feedback of one month, or None."""
    this = sa.select(Feedback).filter_by(mentorado_id=mentorado_id, ano=period.ano, mes=period.mes)
    return session.scalars(this).one_or_none()


def write_feedback(
    session: Session,
    mentorado_id: int,
    period: Period,
    texts: Texts,
    *,
    expected: Texts,
    source: Source,
    now: datetime,
) -> None:
    """Write a month's feedback; `expected` holds the texts that the form was filled with.

    The mentee sees the acting admin as its author. Raises EditConflictError if the stored texts
    differ from the expected ones, and UnknownMentoradoError.
    """
    profile = load_profile_for_update(session, mentorado_id)  # so that two writers take turns
    found = read_feedback(session, mentorado_id, period)
    if {name: getattr(found, name) if found else "" for name in texts} != dict(expected):
        raise EditConflictError
    key = {"mentorado_id": mentorado_id, "ano": period.ano, "mes": period.mes}
    written = {**texts, "author_id": source.actor_id, "updated_at": now}
    statement = insert(Feedback).values(**key, **written)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=written))
    record_action(session, source, "feedback", profile=profile, month=[period.ano, period.mes])


def read_review(session: Session, profile: Mentorado, period: Period) -> MonthReview:
    """Read a month of a profile with the month before and the feedback, in two statements."""
    keys = [(period.ano, period.mes), (period.previous.ano, period.previous.mes)]
    months = sa.select(MetricaMensal).where(
        MetricaMensal.mentorado_id == profile.id,
        sa.tuple_(MetricaMensal.ano, MetricaMensal.mes).in_(keys),
    )
    by_key = {(month.ano, month.mes): month for month in session.scalars(months)}
    month, before = (by_key.get(key) for key in keys)
    is_earlier = sa.tuple_(Feedback.ano, Feedback.mes) < sa.tuple_(*keys[0])
    feedbacks = sa.select(Feedback).where(Feedback.mentorado_id == profile.id, is_earlier)
    newest_first = feedbacks.order_by(Feedback.ano.desc(), Feedback.mes.desc())
    figures = []
    for name in FIGURES:
        value, value_before = getattr(month, name, None), getattr(before, name, None)
        goal = GOAL_OF.get(name)
        own = getattr(month, goal, None) if goal else None
        profile_goal = getattr(profile, goal) if goal else None
        in_force = profile_goal if own is None else own
        figures.append(Figure(name, value, value_before, in_force, is_own_goal=own is not None))
    return MonthReview(
        figures=tuple(figures),
        is_reported=month is not None,
        notes=month.observacoes if month else None,
        last=session.scalars(newest_first.limit(1)).one_or_none(),
    )


def _keys(work_filter: WorkFilter | None, order: WorkOrder) -> sa.Select[Any]:
    """Return a query of key and id of the active mentees of a filter."""
    keys = sa.select(KEYS[order].label("key"), Mentorado.id.label("id")).select_from(Mentorado)
    return _joined(keys).where(IS_ACTIVE, FILTERS[work_filter])


def _read_items(session: Session, period: Period, keys: sa.Select[Any]) -> list[WorkItem]:
    """Read what is shown of a page whose keys a query finds."""
    page = keys.subquery()
    items = sa.select(*ITEM_COLUMNS, page.c.key).join(page, page.c.id == Mentorado.id)
    ordered = _joined(items).order_by(page.c.key, page.c.id)
    return [WorkItem(*row) for row in session.execute(ordered, _parameters(period))]


def _joined(query: sa.Select[Any]) -> sa.Select[Any]:
    """Join everything about the month; PostgreSQL leaves out the tables that are not used."""
    query = query.outerjoin(User, User.id == Mentorado.user_id)
    for table, (ano, mes) in ((REPORTED, THIS), (BEFORE, PREVIOUS), (FEEDBACK, THIS)):
        is_month = sa.and_(table.ano == ano, table.mes == mes)
        query = query.outerjoin(table, sa.and_(table.mentorado_id == Mentorado.id, is_month))
    return query


def _parameters(period: Period) -> dict[str, int]:
    """Return the parameters of every query of this module."""
    before = period.previous
    this = {"ano": period.ano, "mes": period.mes}
    return {**this, "ano_before": before.ano, "mes_before": before.mes}


def _score_of(month: type[MetricaMensal]) -> sa.ColumnElement[int]:
    """Return the score of `dashboard.score.score` in SQL; NULL where nothing is reported.

    Computed in whole numbers of 64 bits, each sum rounded half up: the points p for the value v of
    a goal g are min(2pv, 3pg) / 2g, so that a result counts up to one and a half times its goal.
    """

    def least(*values: Any) -> sa.ColumnElement[int]:
        return sa.func.least(*values, type_=sa.BigInteger())

    def points(weight: int, figure: InstrumentedAttribute[int], goal: str) -> Fraction:
        """Return twice the goal's points as a fraction of the goal: numerator and denominator."""
        own, profile_goal = getattr(month, goal), getattr(Mentorado, goal)
        target = least(sa.cast(sa.func.coalesce(own, profile_goal, 0), sa.BigInteger), LARGEST_GOAL)
        reached = least(2 * weight * sa.cast(figure, sa.BigInteger), 3 * weight * target)
        return reached, sa.func.greatest(target, 1, type_=sa.BigInteger())

    revenue, goal = points(40, month.faturamento, "meta_faturamento")
    score = (revenue + goal) // (2 * goal)
    for (a, g), (b, h) in (
        (points(10, month.posts_feed, "meta_posts"), points(10, month.stories, "meta_stories")),
        (
            points(10, month.leads, "meta_leads"),
            points(10, month.procedimentos, "meta_procedimentos"),
        ),
    ):
        score += (a * h + b * g + g * h) // (2 * g * h)  # the sum of both, rounded half up
    return sa.case((month.id.is_not(None), sa.cast(score, sa.Integer)))


def _counts() -> sa.Select[Any]:
    """Return the query of the counts.

    What is reported is counted by month and then reduced by the few inactive profiles: to compare
    all profiles with all months would take ten times as long.
    """
    active = sa.select(sa.func.count()).select_from(Mentorado).where(IS_ACTIVE)
    scores = _joined(sa.select(SCORE.label("score")).select_from(Mentorado))
    scored = scores.where(IS_ACTIVE, REPORTED.id.is_not(None)).limit(MOST_SCORED).subquery()
    return sa.select(
        active.scalar_subquery(),
        active.where(Mentorado.user_id.is_(None)).scalar_subquery(),
        _count_of_active(MetricaMensal),
        _count_of_active(Feedback),
        sa.select(sa.func.count()).where(scored.c.score < LOW_SCORE).scalar_subquery(),
    )


def _count_of_active(model: type[MetricaMensal | Feedback]) -> sa.ColumnElement[int]:
    is_month = (model.ano == THIS[0], model.mes == THIS[1])
    of_all = sa.select(sa.func.count()).select_from(model).where(*is_month)
    profiles = of_all.join(Mentorado, Mentorado.id == model.mentorado_id)
    of_inactive = profiles.where(Mentorado.ativo == SimNao.NAO)
    return of_all.scalar_subquery() - of_inactive.scalar_subquery()


# Built once: to build them for each page took longer than to run them.
THIS = (sa.bindparam("ano", type_=sa.Integer), sa.bindparam("mes", type_=sa.Integer))
PREVIOUS = (
    sa.bindparam("ano_before", type_=sa.Integer),
    sa.bindparam("mes_before", type_=sa.Integer),
)
IS_ACTIVE = Mentorado.ativo == SimNao.SIM
REPORTED, BEFORE, FEEDBACK = aliased(MetricaMensal), aliased(MetricaMensal), aliased(Feedback)
SCORE = _score_of(REPORTED)
ITEM_COLUMNS = (
    Mentorado.id,
    Mentorado.user_id,
    Mentorado.nome_completo,
    Mentorado.email,
    REPORTED.id.is_not(None),
    SCORE,
    SCORE - _score_of(BEFORE),
    FEEDBACK.id.is_not(None),
    User.last_signed_in,
)
KEYS: dict[WorkOrder, sa.ColumnElement[Any]] = {
    WorkOrder.NAME: sa.func.folded_text(Mentorado.nome_completo).collate("C"),
    WorkOrder.SCORE: sa.func.coalesce(SCORE, LAST),
    WorkOrder.LAST_VISIT: sa.func.coalesce(
        sa.cast(sa.func.floor(sa.extract("epoch", User.last_signed_in)), sa.BigInteger), NEVER
    ),
}
# `mentorado_id`, which is in the join: only then is it an anti join for PostgreSQL.
FILTERS: dict[WorkFilter | None, sa.ColumnElement[bool]] = {
    None: sa.true(),
    WorkFilter.NO_METRICS: REPORTED.mentorado_id.is_(None),
    WorkFilter.NO_FEEDBACK: FEEDBACK.mentorado_id.is_(None),
    WorkFilter.NO_ACCESS: Mentorado.user_id.is_(None),
    WorkFilter.LOW_SCORE: SCORE < LOW_SCORE,
    WorkFilter.TO_WRITE: sa.and_(REPORTED.id.is_not(None), FEEDBACK.mentorado_id.is_(None)),
}
COUNTS = _counts()
