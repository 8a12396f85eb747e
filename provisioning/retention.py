"""Retention: which deleted accounts are due to be erased, and which audit values end."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, text
from sqlalchemy.orm import Session

from models import User
from provisioning.erasure import PSEUDONYM_PREFIX

MAX_ACCOUNTS = 50  # of one sweep
MAX_EVENTS = 1_000
# The condition of the partial index is that of migration 0021.
STRIP_OLD_EVENTS = text("""
    UPDATE audit_events SET details = details - CAST(array['before', 'after', 'email'] AS text[])
     WHERE id IN (SELECT id FROM audit_events
                   WHERE details ?| array['before', 'after', 'email'] AND at < :before
                   ORDER BY at LIMIT :limit)
""")


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long a deleted account is kept, and how long the values of audit events are."""

    accounts: timedelta = timedelta(days=30)
    audit_values: timedelta = timedelta(days=730)


def expired_accounts(session: Session, policy: RetentionPolicy, now: datetime) -> list[int]:
    """Return the ids of accounts that Clerk has deleted so long ago, the oldest first."""
    due = (
        select(User.id)
        .where(User.deleted_at < now - policy.accounts)
        .where(func.starts_with(User.clerk_id, PSEUDONYM_PREFIX).is_(False))
        .order_by(User.deleted_at)
        .limit(MAX_ACCOUNTS)
    )
    return list(session.scalars(due))


def strip_old_events(session: Session, policy: RetentionPolicy, now: datetime) -> int:
    """Remove the values before and after from old audit events; return the number of events."""
    parameters = {"before": now - policy.audit_values, "limit": MAX_EVENTS}
    result = cast("CursorResult[Any]", session.execute(STRIP_OLD_EVENTS, parameters))
    return result.rowcount
