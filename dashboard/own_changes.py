"""What mentees change about themselves: their name, what they have read, and deleted months.

A deleted month can be restored from the archive within thirty days. Every function raises
NoResultFound for a profile that is deleted or has another owner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, literal_column, select, update
from sqlalchemy.orm import Session

from dashboard.months import OwnProfile, check_owner
from dashboard.periods import Period
from models import ArchivedRow, Feedback, Mentorado, MetricaMensal
from provisioning import audit
from provisioning.audit import Source
from provisioning.deleted_profiles import MONTH_DELETED, RESTORE_TIME, insert_again, is_restorable

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
    restorable_until: datetime


def rename(
    session: Session, own: OwnProfile, name: str, *, source: Source, now: datetime
) -> Mentorado:
    """Write the mentee's name and record it in the audit log; return the profile.

    The profile counts as edited, so that no pre-registered one replaces it.
    """
    profile = session.scalars(
        select(Mentorado).filter_by(id=own.id, user_id=own.user_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one()
    before = profile.nome_completo
    if before != name:
        profile.nome_completo, profile.edited_at, profile.updated_at = name, now, now
        details = {"before": {"nome_completo": before}, "after": {"nome_completo": name}}
        _record(session, own, source, "profile_renamed", details)
        session.flush()
    return profile


def confirm_goals(session: Session, own: OwnProfile) -> None:
    """End the announcement of changed goals."""
    check_owner(session, own, lock=True)
    session.execute(update(Mentorado).where(Mentorado.id == own.id).values(previous_goals=None))


def mark_feedback(
    session: Session, own: OwnProfile, period: Period, values: Mapping[str, Any]
) -> bool:
    """Write `read_at` or `focus_done_at` of a month's feedback; return whether there is one."""
    check_owner(session, own, lock=True)
    of_month = update(Feedback).filter_by(mentorado_id=own.id, ano=period.ano, mes=period.mes)
    marked = session.scalars(of_month.values(**values).returning(Feedback.id))
    return marked.one_or_none() is not None


def delete_month(
    session: Session,
    own: OwnProfile,
    period: Period,
    *,
    source: Source,
    now: datetime,
    seen: str | None = None,
) -> bool:
    """Move a month to the archive; return False if it was not reported.

    `seen` is the time of the last change that was shown for confirmation, in ISO 8601. Raises
    MonthChangedError if there was a later change.
    """
    check_owner(session, own, lock=True)
    row = session.execute(
        select(MetricaMensal, func.to_jsonb(literal_column(TABLE)))
        .filter_by(mentorado_id=own.id, ano=period.ano, mes=period.mes)
        .with_for_update()
    ).one_or_none()
    if row is None:
        return False
    month, content = row
    if seen is not None and seen != month.updated_at.isoformat():
        raise MonthChangedError
    archived = ArchivedRow(at=now, reason=MONTH_DELETED, table_name=TABLE, content=content)
    archived.mentorado_id = archived.kept_mentorado_id = own.id
    archived.request_id = source.request_id
    session.add(archived)
    session.delete(month)
    session.flush()
    _record(session, own, source, "month_deleted", {"month": [period.ano, period.mes]})
    return True


def deleted_months(session: Session, own: OwnProfile, *, now: datetime) -> list[DeletedMonth]:
    """Return the months that can be restored, the last deleted first; one for each month."""
    check_owner(session, own)
    newest: dict[tuple[int, int], DeletedMonth] = {}
    for row in session.scalars(_restorable(own, now)):
        ano, mes, revenue = (row.content[name] for name in ("ano", "mes", "faturamento"))
        newest.setdefault((ano, mes), DeletedMonth(ano, mes, revenue, row.at + RESTORE_TIME))
    return list(newest.values())


def restore_month(
    session: Session, own: OwnProfile, period: Period, *, source: Source, now: datetime
) -> bool:
    """Restore a month as it was last deleted; return False if the archive does not have it.

    Raises MonthExistsError if it was reported again.
    """
    check_owner(session, own, lock=True)
    of_month = ArchivedRow.content.contains({"ano": period.ano, "mes": period.mes})
    newest = _restorable(own, now).where(of_month).limit(1).with_for_update()
    row = session.scalars(newest).one_or_none()
    if row is None:
        return False
    if not insert_again(session, TABLE, [row.content], skip_existing=True):
        raise MonthExistsError
    session.delete(row)
    session.flush()
    _record(session, own, source, "month_restored", {"month": [period.ano, period.mes]})
    return True


def _restorable(own: OwnProfile, now: datetime) -> Select[ArchivedRow]:
    """Return a query of the months that can be restored, the last deleted first."""
    of_profile = select(ArchivedRow).where(ArchivedRow.mentorado_id == own.id)
    restorable = of_profile.where(is_restorable(MONTH_DELETED, now))
    return restorable.order_by(ArchivedRow.id.desc())


def _record(
    session: Session, own: OwnProfile, source: Source, event: str, details: dict[str, Any]
) -> None:
    ids = {"user_id": own.user_id, "mentorado_id": own.id}
    audit.record(session, source, event, **ids, details=details)
