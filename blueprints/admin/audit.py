"""The admin console's audit log: who changed what, when and why."""

from typing import Annotated

from flask import Blueprint, render_template
from flask.typing import ResponseReturnValue

from blueprints.api.admin_audit import KINDS, AuditSearch, audit_filter
from core.database import transaction
from provisioning.audit_log import read_events, read_names
from web.access_policy import admin_required
from web.admin_labels import channel_text, event_labels, event_name
from web.validation import EventCursor, read_query

console_audit = Blueprint("console_audit", __name__, url_prefix="/admin/registro")

PAGE_SIZE = 50


class AuditPage(AuditSearch):
    """Filters and page of the audit log."""

    cursor: Annotated[EventCursor, "the last event of the previous page"] = 0


@console_audit.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List audit events, newest first, with the names of their users."""
    query = read_query(AuditPage)
    with transaction() as session:
        wanted = audit_filter(session, query)
        events = read_events(session, wanted, before_id=query.cursor or None, limit=PAGE_SIZE)
        names = read_names(session, events)
    return render_template(
        "console_audit.html",
        query=query,
        filters=query.model_dump(exclude={"cursor"}, exclude_none=True),
        kinds=KINDS,
        events=[
            (event, event_name(event), channel_text(event.entry), event_labels(event))
            for event in events
        ],
        names=names,
        cursor=events[-1].id if len(events) == PAGE_SIZE else None,
    )
