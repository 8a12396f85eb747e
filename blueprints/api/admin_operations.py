"""Operations for admins: the audit log, dead letters, the auto-create switch, sweeps."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal, NotRequired

import structlog
from flask import Blueprint, g, url_for
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from blueprints.api.admin_users import Retried, ensure_user
from core.database import transaction
from core.types import Timestamp, one_of
from dashboard.periods import BRASILIA
from models import AuditEvent, SweepRun
from models.background import AttemptState, SweepStatus
from provisioning import admin_actions, attempts, audit
from provisioning.audit import AuditFilter, AuditNames, read_events, read_names
from provisioning.user_lists import list_mentees, list_users
from sweep import runs
from web.access_policy import admin_required
from web.admin_change import admin_source, log_admin_action, run_with_retry
from web.admin_labels import ACTIONS, EVENTS, channel_text, event_labels, event_name
from web.api import Items, Listed, api_operation, list_page, serialize_row
from web.csv_export import Cell, CsvFile, Row, csv_response
from web.services import services
from web.validation import (
    CURSOR_DESCRIPTION,
    ID_CONVERTER,
    MAX_PAGE_SIZE,
    Body,
    EventCursor,
    Paging,
    Query,
    Text,
    search_term,
)

admin_audit = Blueprint("admin_audit", __name__, url_prefix="/api/admin")
admin_provisioning = Blueprint("admin_provisioning", __name__, url_prefix="/api/admin")
admin_sweeps = Blueprint("admin_sweeps", __name__, url_prefix="/api/admin/sweeps")
log = structlog.get_logger(__name__)

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


@admin_provisioning.get("/audit.csv")
@admin_required
@api_operation()
def download_audit(query: AuditSearch) -> CsvFile:
    """The audit log as CSV, newest events first, with the names of their users."""
    with transaction() as session:
        wanted = audit_filter(session, query)

    def read_batch(
        session: Session, before_id: int | None, limit: int
    ) -> tuple[Sequence[Row], int | None]:
        events = read_events(session, wanted, before_id=before_id, limit=limit)
        names = read_names(session, events)
        rows = [[cell(event, names) for cell in CSV_COLUMNS.values()] for event in events]
        return rows, events[-1].id if len(events) == limit else None

    return csv_response("registro.csv", list(CSV_COLUMNS), read_batch)


class SwitchRequest(Body):
    """Whether profiles are created automatically."""

    enabled: bool


class DeadLetter(TypedDict):
    """The record of a failed ensure that the background no longer retries."""

    id: int
    clerk_id: str
    user_id: int | None
    state: Annotated[str, one_of(AttemptState)]
    attempts: int
    error_class: str
    error_code: str | None
    request_id: str | None
    first_failed_at: Timestamp
    last_failed_at: Timestamp
    next_attempt_at: Timestamp


class RetriedLetter(Retried):
    """The result of the retry of a dead letter."""

    id: int


class Discarded(TypedDict):
    """A deleted dead letter."""

    id: int
    status: Literal["discarded"]
    request_id: str


class Switch(TypedDict):
    """`enabled` is in effect; ENABLE_AUTO_CREATE=false overrides the `stored` value."""

    enabled: bool
    stored: bool


@admin_provisioning.get("/dead-letters")
@admin_required
@api_operation()
def list_dead_letters(query: Paging) -> Listed[DeadLetter]:
    """Dead letters: users whose profile the background no longer tries to create."""
    with transaction() as session:
        letters = attempts.list_dead_letters(session, after_id=query.cursor, limit=query.limit)
    return list_page(
        letters, lambda row: serialize_row(DeadLetter, row[0], user_id=row[1]), limit=query.limit
    )


@admin_provisioning.post(f"/dead-letters/<{ID_CONVERTER}:attempt_id>/retry")
@admin_required
@api_operation()
def retry(attempt_id: int) -> RetriedLetter:
    """Retry now; after a success the next sweep deletes the dead letter."""
    with transaction() as session:
        clerk_id = attempts.load_dead_letter(session, attempt_id).clerk_id
    return {"id": attempt_id, **ensure_user(clerk_id)}


@admin_provisioning.post(f"/dead-letters/<{ID_CONVERTER}:attempt_id>/discard")
@admin_required
@api_operation()
def discard(attempt_id: int) -> Discarded:
    """Delete the dead letter; a user who still needs a profile counts as never tried."""
    source = admin_source()

    def work(session: Session) -> None:
        attempt = attempts.load_dead_letter(session, attempt_id)
        session.delete(attempt)
        details = {"action": "discard", "clerk_id": attempt.clerk_id, "error": attempt.error_class}
        audit.record(session, source, "admin_action", details=details)

    run_with_retry(work)
    log_admin_action("discard")
    return {"id": attempt_id, "status": "discarded", "request_id": g.request_id}


@admin_provisioning.get("/settings/auto-create")
@admin_required
@api_operation()
def show_switch() -> Switch:
    """Whether profiles are created automatically."""
    with transaction() as session:
        return _switch_shape(session)


@admin_provisioning.put("/settings/auto-create")
@admin_required
@api_operation()
def turn_switch(body: SwitchRequest) -> Switch:
    """Switch automatic creation in every process; the next request or sweep applies it."""
    with transaction() as session:
        admin_actions.set_auto_create(
            session, on=body.enabled, source=admin_source(), now=services().now()
        )
        shape = _switch_shape(session)
    log.warning("auto_create_changed", enabled=body.enabled, entry="admin")
    return shape


def _switch_shape(session: Session) -> Switch:
    stored = admin_actions.is_auto_create_on(session)
    return {"enabled": stored and services().config.enable_auto_create, "stored": stored}


class SweepRequest(Body):
    """Options of a sweep; a dry run only counts."""

    dry_run: bool = False


class Queued(TypedDict):
    """A queued run."""

    id: int
    status: Literal["queued"]


class SweepShape(TypedDict):
    """A run; a dry one has a sample."""

    id: int
    status: Annotated[str, one_of(SweepStatus)]
    trigger: str
    dry_run: bool
    total: int
    scanned: int
    created: int
    linked: int
    existing: int
    failed: int
    ambiguous: int
    started_at: Timestamp | None
    finished_at: Timestamp | None
    heartbeat_at: Timestamp | None
    error: str | None
    sample: NotRequired[list[dict[str, Any]]]


@admin_sweeps.post("")
@admin_required
@api_operation("sweep_running")
def queue_sweep(body: SweepRequest) -> tuple[Queued, Literal[202], Mapping[str, str]]:
    """Queue a sweep, which starts within a second."""
    with transaction() as session:
        run = runs.queue(session, dry_run=body.dry_run, requested_by=g.context.user["id"])
    services().activity.wake_scheduler()
    location = url_for("admin_sweeps.show_sweep", run_id=run.id)
    return {"id": run.id, "status": "queued"}, 202, {"Location": location}


@admin_sweeps.get("")
@admin_required
@api_operation()
def list_sweeps() -> Items[SweepShape]:
    """The latest runs, newest first."""
    newest = select(SweepRun).order_by(SweepRun.id.desc()).limit(MAX_PAGE_SIZE)
    with transaction() as session:
        return {"items": [serialize_sweep(run) for run in session.scalars(newest)]}


@admin_sweeps.get(f"/<{ID_CONVERTER}:run_id>")
@admin_required
@api_operation()
def show_sweep(run_id: int) -> SweepShape:
    """One run, with its progress."""
    return serialize_sweep(get_run(run_id))


def get_run(run_id: int) -> SweepRun:
    """Return the run with that id; raises NoResultFound."""
    with transaction() as session:
        return session.get_one(SweepRun, run_id)


def serialize_sweep(run: SweepRun) -> SweepShape:
    """Return a run as JSON values."""
    return serialize_row(SweepShape, run, **({"sample": run.sample or []} if run.dry_run else {}))
