"""The record of what was changed, by whom and why, as admins read it."""

from typing import Annotated, Any

from flask import Blueprint
from pydantic import Field
from typing_extensions import TypedDict

from blueprints.described import described
from blueprints.lists import Listed, listed
from blueprints.queries import NEXT, EventKey, Paging
from blueprints.stance import admin_required
from extensions import transaction
from models import AuditEvent
from provisioning import audit
from session_context import iso_utc
from shapes import Moment

admin_audit = Blueprint("admin_audit", __name__, url_prefix="/api/admin/audit")


class EventShape(TypedDict):
    """An event as the API shows it; ids outlive what they name."""

    id: int
    at: Moment
    event: str
    entry: str
    actor_id: int | None
    user_id: int | None
    mentorado_id: int | None
    request_id: str | None
    details: dict[str, Any] | None


class Back(Paging):
    """How far to go back in time."""

    cursor: Annotated[EventKey, Field(description=NEXT)] = 0


@admin_audit.get("")
@admin_required
@described()
def list_events(asked: Back) -> Listed[EventShape]:
    """The newest events, newest first; the cursor goes back in time."""
    with transaction() as session:
        found = audit.events(session, before_id=asked.cursor or None, limit=asked.limit)
    return listed(found, event_shape, limit=asked.limit)


def event_shape(event: AuditEvent) -> EventShape:
    """The event, ready to be told."""
    return {
        "id": event.id,
        "at": iso_utc(event.at),
        "event": event.event,
        "entry": event.entry,
        "actor_id": event.actor_id,
        "user_id": event.user_id,
        "mentorado_id": event.mentorado_id,
        "request_id": event.request_id,
        "details": event.details,
    }
