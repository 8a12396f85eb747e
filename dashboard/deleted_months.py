"""Delete a reported month, and restore it from the archive within thirty days."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Select,
    delete,
    func,
    insert,
    literal_column,
    select,
)
from sqlalchemy.orm import Session

from dashboard.months import OwnProfile, ReportedMonth, check_owner, reported_month
from dashboard.periods import Period
from models import ArchivedRow, MetricaMensal
from provisioning import audit
from provisioning.audit import Source
from provisioning.deleted_profiles import (
    MONTH_DELETED,
    RESTORE_TIME,
    insert_again,
    is_restorable,
)

TABLE = MetricaMensal.__tablename__


class MonthChangedError(Exception):
    """The month was changed since its figures were shown for confirmation."""


class MonthExistsError(Exception):
    """The month cannot be restored, because it was reported again."""


@dataclass(frozen=True, slots=True)
class DeletedMonth:
    """A deleted month that can still be restored, until `restorable_until`."""

    ano: int
    mes: int
    faturamento: int
    deleted_at: datetime

    @property
    def period(self) -> Period:
        """The calendar month."""
        return Period(self.ano, self.mes)

    @property
    def restorable_until(self) -> datetime:
        """The end of the time in which it can be restored."""
        return self.deleted_at + RESTORE_TIME


def delete_month(
    session: Session,
    own: OwnProfile,
    period: Period,
    *,
    source: Source,
    now: datetime,
    seen: str | None = None,
) -> ReportedMonth | None:
    """Move a month to the archive and return it; return None if it was not reported.

    `seen` is the time of the last change that was shown for confirmation, in ISO 8601. Raises
    MonthChangedError if there was a later change, and NoResultFound for a profile that is deleted
    or has another owner.
    """
    check_owner(session, own, lock=True)
    row = session.execute(
        select(MetricaMensal.id, func.to_jsonb(literal_column(TABLE)).label("content"))
        .where(*_is_month(own, period))
        .with_for_update()
    ).one_or_none()
    if row is None:
        return None
    month = reported_month(session, own, period)
    if month is None or (seen is not None and seen != month.updated_at.isoformat()):
        raise MonthChangedError
    session.execute(
        insert(ArchivedRow).values(
            at=now,
            reason=MONTH_DELETED,
            table_name=TABLE,
            content=row.content,
            mentorado_id=own.id,
            kept_mentorado_id=own.id,
            request_id=source.request_id,
        )
    )
    session.execute(delete(MetricaMensal).where(MetricaMensal.id == row.id))
    _record(session, "month_deleted", own, period, source)
    return month


def deleted_months(session: Session, own: OwnProfile, *, now: datetime) -> list[DeletedMonth]:
    """Return the months that can be restored, the last deleted first; one for each month."""
    check_owner(session, own)
    rows = session.scalars(_restorable(own, now).order_by(ArchivedRow.id.desc()))
    newest: dict[Period, DeletedMonth] = {}
    for row in rows:
        content = row.content
        month = DeletedMonth(content["ano"], content["mes"], content["faturamento"], row.at)
        newest.setdefault(month.period, month)
    return list(newest.values())


def restore_month(
    session: Session, own: OwnProfile, period: Period, *, source: Source, now: datetime
) -> bool:
    """Restore a month as it was last deleted; return False if the archive does not have it.

    Raises MonthExistsError if it was reported again, and NoResultFound as `delete_month`.
    """
    check_owner(session, own, lock=True)
    of_month = (
        ArchivedRow.content["ano"].as_integer() == period.ano,
        ArchivedRow.content["mes"].as_integer() == period.mes,
    )
    row = session.scalars(
        _restorable(own, now)
        .where(*of_month)
        .order_by(ArchivedRow.id.desc())
        .limit(1)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return False
    if not insert_again(session, TABLE, [row.content], skip_existing=True):
        raise MonthExistsError
    session.delete(row)
    session.flush()
    _record(session, "month_restored", own, period, source)
    return True


def _restorable(own: OwnProfile, now: datetime) -> Select[ArchivedRow]:
    return select(ArchivedRow).where(
        ArchivedRow.mentorado_id == own.id, is_restorable(MONTH_DELETED, now)
    )


def _is_month(own: OwnProfile, period: Period) -> tuple[ColumnElement[bool], ...]:
    return (
        MetricaMensal.mentorado_id == own.id,
        MetricaMensal.ano == period.ano,
        MetricaMensal.mes == period.mes,
    )


def _record(session: Session, event: str, own: OwnProfile, period: Period, source: Source) -> None:
    audit.record(
        session,
        source,
        event,
        user_id=own.user_id,
        mentorado_id=own.id,
        details={"month": [period.ano, period.mes]},
    )
