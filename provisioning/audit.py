"""The record of what was changed, written in the transaction that changes it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import AuditEvent


@dataclass(frozen=True, slots=True)
class Entry:
    """The door through which a change came: `page api webhook sweep admin cli`.

    `request_id` joins the record to the logs; `actor_id` is the admin who acts, if one does.
    """

    door: str
    request_id: str | None = None
    actor_id: int | None = None

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
