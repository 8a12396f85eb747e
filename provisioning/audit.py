"""The record of what was changed, written in the transaction that changes it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, or_, select
from sqlalchemy.orm import Session

from models import AuditEvent


@dataclass(frozen=True, slots=True)
class Entry:
    """The door through which a change came: `page api webhook sweep admin cli`.

    `request_id` joins the record to the logs; `actor_id` is the admin who acts, if one does, and
    `reason` why.
    """

    door: str
    request_id: str | None = None
    actor_id: int | None = None
    reason: str | None = None

    @property
    def is_sign_in(self) -> bool:
        """Whether the person is there in person."""
        return self.door in ("page", "api")

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for the answer."""
        return self.door == "sweep"


def record(
    session: Session,
    entry: Entry,
    event: str,
    *,
    user_id: int | None = None,
    mentorado_id: int | None = None,
    details: dict[str, Any] | None = None,
) -> None:
    """Add one event; it stands or falls with the transaction."""
    if entry.reason:
        details = {**(details or {}), "reason": entry.reason}
    session.execute(
        insert(AuditEvent).values(
            event=event,
            entry=entry.door,
            actor_id=entry.actor_id,
            request_id=entry.request_id,
            user_id=user_id,
            mentorado_id=mentorado_id,
            details=details,
        )
    )


def events(
    session: Session,
    *,
    before_id: int | None = None,
    limit: int,
    user_id: int | None = None,
    mentorado_id: int | None = None,
) -> list[AuditEvent]:
    """The newest events, newest first: of a person, of a profile, of either, or of everybody."""
    found = select(AuditEvent).order_by(AuditEvent.id.desc()).limit(limit)
    if before_id is not None:
        found = found.where(AuditEvent.id < before_id)
    concerned = [
        column == number
        for column, number in (
            (AuditEvent.user_id, user_id),
            (AuditEvent.mentorado_id, mentorado_id),
        )
        if number is not None
    ]
    return list(session.scalars(found.where(or_(*concerned)) if concerned else found))
