"""The record of what was changed, by whom and why, as admins read it."""

from typing import Any

from flask import Blueprint, jsonify
from flask.typing import ResponseReturnValue

from blueprints.lists import LARGEST_EVENT_ID, asked_page
from blueprints.stance import admin_required
from extensions import transaction
from models import AuditEvent
from provisioning import audit
from session_context import iso_utc

admin_audit = Blueprint("admin_audit", __name__, url_prefix="/api/admin/audit")


@admin_audit.get("")
@admin_required
def list_events() -> ResponseReturnValue:
    """The newest events, newest first; the cursor goes back in time."""
    page = asked_page(most=LARGEST_EVENT_ID)
    with transaction() as session:
        found = audit.events(session, before_id=page.after_id or None, limit=page.limit)
    return jsonify(page.answer(found, event_shape))


def event_shape(event: AuditEvent) -> dict[str, Any]:
    """An event as the API shows it."""
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
