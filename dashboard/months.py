"""Read and write a mentee's reported months, with their goals and the mentor's feedback."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Select, bindparam, func, or_, select, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import LateralFromClause

from dashboard.periods import Period
from models import Feedback, Mentorado, MetricaMensal

WINDOW_MONTHS = 12


@dataclass(frozen=True, slots=True)
class Goals:
    """The goals of a month."""

    faturamento: int
    leads: int
    procedimentos: int
    posts: int
    stories: int


@dataclass(frozen=True, slots=True)
class Month:
    """One reported month, with the goals that hold in it."""

    ano: int
    mes: int
    faturamento: int
    lucro: int
    leads: int
    procedimentos: int
    posts: int
    stories: int
    goals: Goals


@dataclass(frozen=True, slots=True)
class MonthFeedback:
    """The mentor's feedback on one month."""

    ano: int
    mes: int
    analise_mes: str
    foco_proximo_mes: str
    sugestao_mentor: str


@dataclass(frozen=True, slots=True)
class Report:
    """The data of the overview; `months` are in ascending order, at most twelve.

    `is_read_only` is true while the database refuses writes.
    """

    months: tuple[Month, ...]
    goals: Goals
    feedback: MonthFeedback | None
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class OwnProfile:
    """A profile and the user who must own it at the time of a read or write.

    The cached request context may be seconds old; an admin may have linked the profile to another
    user since.
    """

    id: int
    user_id: int


def check_owner(session: Session, own: OwnProfile, *, lock: bool = False) -> None:
    """Raise NoResultFound unless the user owns the profile; `lock` keeps that until the commit."""
    profile = select(Mentorado.id).where(Mentorado.id == own.id, Mentorado.user_id == own.user_id)
    # A key share lock: neither a deletion nor another owner comes in between.
    session.scalars(profile.with_for_update(read=True, key_share=True) if lock else profile).one()


def read_report(session: Session, mentorado_id: int, *, owner_id: int | None = None) -> Report:
    """Read a mentee's last twelve reported months, goals and newest feedback, in one statement.

    With `owner_id`, that user must own the profile. Raises NoResultFound for a profile that does
    not exist or has another owner.
    """
    rows = session.execute(REPORT, {"mentorado": mentorado_id, "owner": owner_id}).all()
    if not rows:
        raise NoResultFound(f"no mentorado {mentorado_id} of that owner")
    standing = Goals(*(value or 0 for value in rows[0][STANDING_GOALS]))
    months = (_month(row[MONTH], row[MONTH_GOALS], standing) for row in rows)
    feedback = MonthFeedback(*rows[0][FEEDBACK]) if rows[0][FEEDBACK][0] is not None else None
    reported = _ascending(month for month in months if month is not None)
    return Report(reported, standing, feedback, rows[0][IS_READ_ONLY] == "on")


def _month(values: Sequence[Any], month_goals: Sequence[Any], standing: Goals) -> Month | None:
    """Build a month of a row; None for the empty row of a mentee without months."""
    if values[0] is None:
        return None
    pairs = zip(month_goals, astuple(standing), strict=True)
    goals = Goals(*(usual if own is None else own for own, usual in pairs))
    fields_of_month = (*values, goals)
    return Month(*fields_of_month)


def _ascending(months: Iterable[Month]) -> tuple[Month, ...]:
    return tuple(sorted(months, key=lambda m: (m.ano, m.mes)))


def _newest(
    model: type[MetricaMensal | Feedback], columns: Iterable[str], limit: int
) -> LateralFromClause:
    rows = select(*(model.__table__.c[name] for name in columns)).where(
        model.mentorado_id == Mentorado.id
    )
    return rows.order_by(model.ano.desc(), model.mes.desc()).limit(limit).lateral()


def _report_query() -> Select[Any]:
    months = _newest(MetricaMensal, [*MONTH_COLUMNS, *GOAL_COLUMNS], WINDOW_MONTHS)
    feedback = _newest(Feedback, FEEDBACK_COLUMNS, 1)
    owner = bindparam("owner", type_=Integer)
    return (
        select(
            *(Mentorado.__table__.c[name] for name in GOAL_COLUMNS),
            months,
            feedback,
            func.current_setting("transaction_read_only"),
        )
        .outerjoin_from(Mentorado, months, true())
        .outerjoin(feedback, true())
        .where(Mentorado.id == bindparam("mentorado"))
        .where(or_(owner.is_(None), Mentorado.user_id == owner))
    )


GOAL_COLUMNS = [f"meta_{field.name}" for field in fields(Goals)]
MONTH_COLUMNS = ["ano", "mes", "faturamento", "lucro", "leads", "procedimentos"]
MONTH_COLUMNS += ["posts_feed", "stories"]
FEEDBACK_COLUMNS = [field.name for field in fields(MonthFeedback)]
# One row per month: the standing goals, the month, its own goals, the feedback, the setting.
REPORT = _report_query()
STANDING_GOALS, MONTH, MONTH_GOALS, FEEDBACK = slice(5), slice(5, 13), slice(13, 18), slice(18, 23)
IS_READ_ONLY = 23


FIGURES = ("faturamento", "lucro", "posts_feed", "stories", "leads", "procedimentos")

Changes = Mapping[str, int | str | None]  # a field of the month → its new value


@dataclass(frozen=True, slots=True)
class ReportedMonth:
    """One month as reported, in whole reais and counts."""

    ano: int
    mes: int
    faturamento: int
    lucro: int
    posts_feed: int
    stories: int
    leads: int
    procedimentos: int
    observacoes: str | None
    updated_at: datetime


def save_month(
    session: Session, own: OwnProfile, period: Period, changes: Changes, *, now: datetime
) -> ReportedMonth:
    """Write the given fields of a month and leave the others unchanged.

    A new month starts with zeros. One upsert writes it: concurrent saves of different fields are
    all kept, and for the same field the last one wins. Raises NoResultFound for a profile that is
    deleted or has another owner.
    """
    check_owner(session, own, lock=True)
    written = {**changes, "updated_at": now}
    row = session.scalars(
        insert(MetricaMensal)
        .values(mentorado_id=own.id, ano=period.ano, mes=period.mes, **written)
        .on_conflict_do_update(index_elements=["mentorado_id", "ano", "mes"], set_=written)
        .returning(MetricaMensal)
        .execution_options(populate_existing=True)
    ).one()
    return _reported(row)


def reported_months(session: Session, own: OwnProfile, *, limit: int) -> list[ReportedMonth]:
    """Return the newest months, newest first; raises NoResultFound as `save_month` does."""
    check_owner(session, own)
    rows = session.scalars(
        select(MetricaMensal)
        .where(MetricaMensal.mentorado_id == own.id)
        .order_by(MetricaMensal.ano.desc(), MetricaMensal.mes.desc())
        .limit(limit)
    )
    return [_reported(row) for row in rows]


def reported_month(session: Session, own: OwnProfile, period: Period) -> ReportedMonth | None:
    """Return the reported values of a month, or None; raises as `reported_months` does."""
    check_owner(session, own)
    row = session.scalars(
        select(MetricaMensal)
        .where(MetricaMensal.mentorado_id == own.id)
        .where(MetricaMensal.ano == period.ano, MetricaMensal.mes == period.mes)
    ).one_or_none()
    return _reported(row) if row else None


def _reported(row: MetricaMensal) -> ReportedMonth:
    return ReportedMonth(
        ano=row.ano,
        mes=row.mes,
        observacoes=row.observacoes,
        updated_at=row.updated_at,
        **{field: getattr(row, field) for field in FIGURES},
    )
