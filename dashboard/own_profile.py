"""Changes by mentees: rename the own profile, mark goals and feedback as read."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dashboard.months import OwnProfile, check_owner
from dashboard.periods import Period
from models import Feedback, Mentorado
from provisioning import audit
from provisioning.audit import Source


def rename(
    session: Session, own: OwnProfile, name: str, *, source: Source, now: datetime
) -> Mentorado:
    """Write the mentee's name and record it in the audit log; return the profile.

    The profile counts as edited, so that no pre-registered one replaces it. Raises NoResultFound
    for a profile that is deleted or has another owner.
    """
    profile = session.scalars(
        select(Mentorado)
        .where(Mentorado.id == own.id, Mentorado.user_id == own.user_id)
        .with_for_update(),
        execution_options={"populate_existing": True},
    ).one()
    if profile.nome_completo == name:
        return profile
    details = {"before": {"nome_completo": profile.nome_completo}, "after": {"nome_completo": name}}
    profile.nome_completo, profile.edited_at, profile.updated_at = name, now, now
    audit.record(
        session,
        source,
        "profile_renamed",
        user_id=own.user_id,
        mentorado_id=own.id,
        details=details,
    )
    session.flush()
    return profile


def confirm_goals(session: Session, own: OwnProfile) -> None:
    """End the announcement of changed goals; raises NoResultFound as `rename`."""
    check_owner(session, own, lock=True)
    session.execute(update(Mentorado).where(Mentorado.id == own.id).values(previous_goals=None))


def mark_feedback(
    session: Session, own: OwnProfile, period: Period, values: Mapping[str, Any]
) -> bool:
    """Write `read_at` or `focus_done_at` of a month's feedback; return whether there is one.

    Raises NoResultFound as `rename`.
    """
    check_owner(session, own, lock=True)
    marked = (
        update(Feedback)
        .where(Feedback.mentorado_id == own.id)
        .where(Feedback.ano == period.ano, Feedback.mes == period.mes)
        .values(**values)
        .returning(Feedback.id)
    )
    return session.scalars(marked).one_or_none() is not None
