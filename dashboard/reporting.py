"""Reporting a month: each field by itself, so that what others save meanwhile is kept."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dashboard.months import OwnProfile, check_owner
from dashboard.periods import Period
from models import MetricaMensal

FIGURES = ("faturamento", "lucro", "posts_feed", "stories", "leads", "procedimentos")

Changes = Mapping[str, int | str | None]  # a field of the month → its new value


@dataclass(frozen=True, slots=True)
class ReportedMonth:
    """One month as the mentee reported it, in whole reais and counts."""

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
    """Write the given fields of a month and leave the others as they are.

    A month that was not there begins with zeros. One statement decides, so that simultaneous saves
    of different fields are all kept; of the same field the last one counts. Raises NoResultFound
    for a profile that is gone or has got another owner.
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
    """The newest months of a mentee, the newest first; raises NoResultFound as `save_month`."""
    check_owner(session, own)
    rows = session.scalars(
        select(MetricaMensal)
        .where(MetricaMensal.mentorado_id == own.id)
        .order_by(MetricaMensal.ano.desc(), MetricaMensal.mes.desc())
        .limit(limit)
    )
    return [_reported(row) for row in rows]


def reported_month(session: Session, own: OwnProfile, period: Period) -> ReportedMonth | None:
    """What a mentee has reported for that month, if anything; raises as `reported_months`."""
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
