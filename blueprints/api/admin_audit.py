"""The audit log for admins: events as JSON and CSV, and the filter that pages share."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any

from flask import Blueprint
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from core.database import transaction
from core.types import Timestamp
from dashboard.periods import BRASILIA
from models import AuditEvent
from provisioning.audit import AuditFilter, AuditNames, read_events, read_names
from provisioning.user_lists import list_mentees, list_users
from web.access_policy import admin_required
from web.admin_labels import ACTIONS, EVENTS, channel_text, event_labels, event_name
from web.api import Listed, api_operation, list_page, serialize_row
from web.csv_export import Cell, Row
from web.validation import CURSOR_DESCRIPTION, EventCursor, Paging, Query, Text, search_term

admin_audit = Blueprint("admin_audit", __name__, url_prefix="/api/admin")

KINDS = dict(sorted({**EVENTS, **ACTIONS}.items(), key=lambda item: item[1]))
CSV_COLUMNS: dict[str, Callable[[AuditEvent, AuditNames], Cell]] = {
    "Número": lambda event, _: event.id,
    "Quando": lambda event, _: event.at,
    "O quê": lambda event, _: event_name(event),
    "Quem fez": lambda event, names: names.user(event.actor_id),
    "Conta": lambda event, names: names.user(event.user_id),
    "Perfil": lambda event, names: names.profile(event.mentorado_id),
    "Por onde": lambda event, _: channel_text(event.entry),
    "Motivo e detalhes": lambda event, _: event_labels(event),
    "Código": lambda event, _: event.request_id,
}
DAY = timedelta(days=1)
MOST_FOUND = 50  # accounts and profiles of a search whose events are shown


def _start_of_day(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=BRASILIA)


def _check_day(text: str | None) -> str | None:
    try:
        if text is not None:
            _start_of_day(text) + DAY
    except (ValueError, OverflowError) as err:  # its end must be a time as well
        raise PydanticCustomError("date", "no date") from err
    return text


Day = Annotated[Text, AfterValidator(_check_day), Field(description="`2026-03-31`, in Brasília")]


class AuditSearch(Query):
    """Filters of the audit log."""

    q: Annotated[Text, Field(description="The event's user, profile or admin")] = None
    kind: Annotated[Text, Field(description="An event, or the action of an admin")] = None
    since: Day = None
    until: Day = None


class EventShape(TypedDict):
    """An audit event; its ids stay after what they refer to was deleted."""

    id: int
    at: Timestamp
    event: str
    entry: str
    actor_id: int | None
    user_id: int | None
    mentorado_id: int | None
    request_id: str | None
    details: dict[str, Any] | None


class AuditQuery(Paging):
    """A page of audit events."""

    cursor: Annotated[EventCursor, Field(description=CURSOR_DESCRIPTION)] = 0


@admin_audit.get("/audit")
@admin_required
@api_operation()
def list_events(query: AuditQuery) -> Listed[EventShape]:
    """The newest audit events first; the cursor goes back in time."""
    with transaction() as session:
        events = read_events(
            session, AuditFilter(), before_id=query.cursor or None, limit=query.limit
        )
    return list_page(events, partial(serialize_row, EventShape), limit=query.limit)


def audit_filter(session: Session, query: AuditSearch) -> AuditFilter:
    """Return the filter of a request."""
    term = search_term(query.q)
    users = list_users(session, search=term, limit=MOST_FOUND) if term else None
    profiles = list_mentees(session, search=term, limit=MOST_FOUND) if term else None
    return AuditFilter(
        kind=query.kind,
        is_action=query.kind not in EVENTS,
        since=_start_of_day(query.since) if query.since else None,
        until=_start_of_day(query.until) + DAY if query.until else None,
        user_ids=None if users is None else [row.user.id for row in users],
        mentorado_ids=None if profiles is None else [profile.id for profile in profiles],
    )


def read_csv_batch(
    session: Session, wanted: AuditFilter, before_id: int | None, limit: int
) -> tuple[Sequence[Row], int | None]:
    """Return the next lines of the audit log as CSV, and the id to continue before."""
    events = read_events(session, wanted, before_id=before_id, limit=limit)
    names = read_names(session, events)
    rows = [[cell(event, names) for cell in CSV_COLUMNS.values()] for event in events]
    return rows, events[-1].id if len(events) == limit else None
