"""The work list of a month: for each active mentee, what is reported, written and missing.

A page is one statement: its inner query finds the page by the key of the order, the outer one reads
what is shown of its rows.
"""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    cast,
    extract,
    func,
    literal,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from dashboard.periods import Period
from models import Feedback, Mentorado, MetricaMensal, User
from models.people import SimNao

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
class WorkCounts:
    """How many active mentees there are, and how many each filter has.

    `low_score` is None where more than MOST_SCORED have reported.
    """

    total: int
    no_metrics: int
    no_feedback: int
    no_access: int
    low_score: int | None

    def of(self, work_filter: WorkFilter | None) -> int | None:
        """The number of mentees of a filter; of all without one."""
        return {
            None: self.total,
            WorkFilter.NO_METRICS: self.no_metrics,
            WorkFilter.NO_FEEDBACK: self.no_feedback,
            WorkFilter.NO_ACCESS: self.no_access,
            WorkFilter.LOW_SCORE: self.low_score,
        }.get(work_filter)


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
        keys = keys.where(tuple_(key, page_id) > tuple_(literal(after[0]), after[1]))
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


def count_work(session: Session, period: Period) -> WorkCounts:
    """Return the counts of a month, in one statement."""
    row = session.execute(COUNTS, _parameters(period)).one()
    total, without_account, reported, written, low_score = row
    return WorkCounts(
        total=total,
        no_metrics=total - reported,
        no_feedback=total - written,
        no_access=without_account,
        low_score=low_score if reported <= MOST_SCORED else None,
    )


def _keys(work_filter: WorkFilter | None, order: WorkOrder) -> Select[Any]:
    """Return a query of key and id of the active mentees of a filter."""
    keys = select(KEYS[order].label("key"), Mentorado.id.label("id")).select_from(Mentorado)
    return _joined(keys).where(IS_ACTIVE, FILTERS[work_filter])


def _read_items(session: Session, period: Period, keys: Select[Any]) -> list[WorkItem]:
    """Read what is shown of a page whose keys a query finds."""
    page = keys.subquery()
    items = select(*ITEM_COLUMNS, page.c.key).join(page, page.c.id == Mentorado.id)
    ordered = _joined(items).order_by(page.c.key, page.c.id)
    return [WorkItem(*row) for row in session.execute(ordered, _parameters(period))]


def _joined(query: Select[Any]) -> Select[Any]:
    """Join everything about the month; PostgreSQL leaves out the tables that are not used."""
    query = query.outerjoin(User, User.id == Mentorado.user_id)
    for table, (ano, mes) in ((REPORTED, THIS), (BEFORE, PREVIOUS), (FEEDBACK, THIS)):
        is_month = and_(table.ano == ano, table.mes == mes)
        query = query.outerjoin(table, and_(table.mentorado_id == Mentorado.id, is_month))
    return query


def _parameters(period: Period) -> dict[str, int]:
    """Return the parameters of every query of this module."""
    before = period.previous
    return {
        "ano": period.ano,
        "mes": period.mes,
        "ano_before": before.ano,
        "mes_before": before.mes,
    }


def _score_of(month: type[MetricaMensal]) -> ColumnElement[int]:
    """Return the score of `dashboard.score.score` in SQL; NULL where nothing is reported.

    Computed in whole numbers of 64 bits, each sum rounded half up: the points p for the value v of
    a goal g are min(2pv, 3pg) / 2g, so that a result counts up to one and a half times its goal.
    """

    def least(*values: Any) -> ColumnElement[int]:
        return func.least(*values, type_=BigInteger())

    def points(
        weight: int, figure: InstrumentedAttribute[int], goal: str
    ) -> tuple[ColumnElement[int], ColumnElement[int]]:
        """Return twice the goal's points as a fraction of the goal: numerator and denominator."""
        own, standing = getattr(month, goal), getattr(Mentorado, goal)
        target = least(cast(func.coalesce(own, standing, 0), BigInteger), LARGEST_GOAL)
        reached = least(2 * weight * cast(figure, BigInteger), 3 * weight * target)
        return reached, func.greatest(target, 1, type_=BigInteger())

    def rounded(
        one: tuple[ColumnElement[int], ColumnElement[int]],
        two: tuple[ColumnElement[int], ColumnElement[int]],
    ) -> ColumnElement[int]:
        (a, g), (b, h) = one, two
        return (a * h + b * g + g * h) // (2 * g * h)

    revenue, goal = points(40, month.faturamento, "meta_faturamento")
    reach = points(10, month.posts_feed, "meta_posts"), points(10, month.stories, "meta_stories")
    leads = points(10, month.leads, "meta_leads")
    clients = leads, points(10, month.procedimentos, "meta_procedimentos")
    score = (revenue + goal) // (2 * goal) + rounded(*reach) + rounded(*clients)
    return case((month.id.is_not(None), cast(score, Integer)))


def _counts() -> Select[Any]:
    """Return the query of the counts.

    What is reported is counted by month and then reduced by the few inactive profiles: to compare
    all profiles with all months would take ten times as long.
    """
    active = select(func.count()).select_from(Mentorado).where(IS_ACTIVE)
    scores = _joined(select(SCORE.label("score")).select_from(Mentorado))
    scored = scores.where(IS_ACTIVE, REPORTED.id.is_not(None)).limit(MOST_SCORED).subquery()
    return select(
        active.scalar_subquery(),
        active.where(Mentorado.user_id.is_(None)).scalar_subquery(),
        _count_of_active(MetricaMensal),
        _count_of_active(Feedback),
        select(func.count()).where(scored.c.score < LOW_SCORE).scalar_subquery(),
    )


def _count_of_active(model: type[MetricaMensal | Feedback]) -> ColumnElement[int]:
    is_month = (model.ano == THIS[0], model.mes == THIS[1])
    of_all = select(func.count()).select_from(model).where(*is_month).scalar_subquery()
    of_inactive = (
        select(func.count())
        .select_from(Mentorado)
        .join(model, model.mentorado_id == Mentorado.id)
        .where(Mentorado.ativo == SimNao.NAO, *is_month)
        .scalar_subquery()
    )
    return of_all - of_inactive


# Built once: to build them for each page took longer than to run them.
THIS = (bindparam("ano", type_=Integer), bindparam("mes", type_=Integer))
PREVIOUS = (bindparam("ano_before", type_=Integer), bindparam("mes_before", type_=Integer))
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
KEYS: dict[WorkOrder, ColumnElement[Any]] = {
    WorkOrder.NAME: func.folded_text(Mentorado.nome_completo).collate("C"),
    WorkOrder.SCORE: func.coalesce(SCORE, LAST),
    WorkOrder.LAST_VISIT: func.coalesce(
        cast(func.floor(extract("epoch", User.last_signed_in)), BigInteger), NEVER
    ),
}
# `mentorado_id`, which is in the join: only then is it an anti join for PostgreSQL.
FILTERS: dict[WorkFilter | None, ColumnElement[bool]] = {
    None: true(),
    WorkFilter.NO_METRICS: REPORTED.mentorado_id.is_(None),
    WorkFilter.NO_FEEDBACK: FEEDBACK.mentorado_id.is_(None),
    WorkFilter.NO_ACCESS: Mentorado.user_id.is_(None),
    WorkFilter.LOW_SCORE: SCORE < LOW_SCORE,
    WorkFilter.TO_WRITE: and_(REPORTED.id.is_not(None), FEEDBACK.mentorado_id.is_(None)),
}
COUNTS = _counts()
