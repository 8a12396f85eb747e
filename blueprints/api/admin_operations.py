"""What keeps people from their profiles: dead letters, and the switch that stops creation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired

import structlog
from flask import Blueprint, g, url_for
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from blueprints.api.admin_users import Retried, ensure_again
from core.database import transaction
from core.types import Moment, one_of
from models import AuditEvent, ProvisioningAttempt, SweepRun
from models.provisioning_attempt import AttemptState
from models.sweep_run import SweepStatus
from provisioning import attempts, audit, auto_create
from provisioning.context import iso_utc
from sweep import runs
from web.access_policy import admin_required
from web.admin_change import admin_source, flash_result, run_with_retry
from web.api import api_operation
from web.errors import NotFoundError
from web.services import services
from web.validation import ID, LONGEST_LIST, NEXT, Body, EventKey, Items, Listed, Paging, listed

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


class AuditQuery(Paging):
    """How far to go back in time."""

    cursor: Annotated[EventKey, Field(description=NEXT)] = 0


@admin_audit.get("")
@admin_required
@api_operation()
def list_events(asked: AuditQuery) -> Listed[EventShape]:
    """The newest events, newest first; the cursor goes back in time."""
    with transaction() as session:
        found = audit.events(session, before_id=asked.cursor or None, limit=asked.limit)
    return listed(found, serialize_event, limit=asked.limit)


def serialize_event(event: AuditEvent) -> EventShape:
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


admin_provisioning = Blueprint("admin_provisioning", __name__, url_prefix="/api/admin")
log = structlog.get_logger(__name__)


class SwitchRequest(Body):
    """Whether profiles shall be made automatically."""

    enabled: bool


class DeadLetter(TypedDict):
    """The record of somebody for whom the background has given up."""

    id: int
    clerk_id: str
    user_id: int | None
    state: Annotated[str, one_of(AttemptState)]
    attempts: int
    error_class: str
    error_code: str | None
    request_id: str | None
    first_failed_at: Moment
    last_failed_at: Moment
    next_attempt_at: Moment


class RetriedLetter(Retried):
    """What one more try has come to, and for which letter."""

    id: int


class Discarded(TypedDict):
    """A letter that is gone."""

    id: int
    status: Literal["discarded"]
    request_id: str


class Switch(TypedDict):
    """`enabled` is what holds; ENABLE_AUTO_CREATE=false overrules what is `stored`."""

    enabled: bool
    stored: bool


@admin_provisioning.get("/dead-letters")
@admin_required
@api_operation()
def list_dead_letters(asked: Paging) -> Listed[DeadLetter]:
    """People for whom the background has given up."""
    with transaction() as session:
        found = attempts.dead_letters(session, after_id=asked.cursor, limit=asked.limit)
    return listed(found, _serialize_dead_letter, limit=asked.limit)


@admin_provisioning.post(f"/dead-letters/<{ID}:attempt_id>/retry")
@admin_required
@api_operation()
def retry(attempt_id: int) -> RetriedLetter:
    """Try once more, now; where it works, the next sweep finds the profile and drops the letter."""
    with transaction() as session:
        clerk_id = attempts.dead_letter(session, attempt_id).clerk_id
    return {"id": attempt_id, **ensure_again(clerk_id)}


@admin_provisioning.post(f"/dead-letters/<{ID}:attempt_id>/discard")
@admin_required
@api_operation()
def discard(attempt_id: int) -> Discarded:
    """Drop the letter; whoever is still due a profile counts as never tried."""
    source = admin_source()

    def work(session: Session) -> None:
        letter = attempts.dead_letter(session, attempt_id)
        session.delete(letter)
        details = {"action": "discard", "clerk_id": letter.clerk_id, "error": letter.error_class}
        audit.record(session, source, "admin_action", details=details)

    run_with_retry(work)
    flash_result("discard")
    return {"id": attempt_id, "status": "discarded", "request_id": g.request_id}


@admin_provisioning.get("/settings/auto-create")
@admin_required
@api_operation()
def show_switch() -> Switch:
    """Whether profiles are made automatically just now."""
    with transaction() as session:
        return _switch_shape(session)


@admin_provisioning.put("/settings/auto-create")
@admin_required
@api_operation()
def turn_switch(wanted: SwitchRequest) -> Switch:
    """Turn it, in every process at once; turned on, the next request and sweep heal."""
    with transaction() as session:
        auto_create.set_enabled(
            session, on=wanted.enabled, source=admin_source(), now=services().now()
        )
        shape = _switch_shape(session)
    log.warning("auto_create_changed", enabled=wanted.enabled, entry="admin")
    return shape


def _switch_shape(session: Session) -> Switch:
    stored = auto_create.is_enabled(session)
    return {"enabled": stored and services().config.enable_auto_create, "stored": stored}


def _serialize_dead_letter(found: tuple[ProvisioningAttempt, int | None]) -> DeadLetter:
    attempt, user_id = found
    return {
        "id": attempt.id,
        "clerk_id": attempt.clerk_id,
        "user_id": user_id,
        "state": attempt.state,
        "attempts": attempt.attempts,
        "error_class": attempt.error_class,
        "error_code": attempt.error_code,
        "request_id": attempt.request_id,
        "first_failed_at": iso_utc(attempt.first_failed_at),
        "last_failed_at": iso_utc(attempt.last_failed_at),
        "next_attempt_at": iso_utc(attempt.next_attempt_at),
    }


admin_sweeps = Blueprint("admin_sweeps", __name__, url_prefix="/api/admin/sweeps")


class SweepRequest(Body):
    """How to sweep; a dry run only counts."""

    dry_run: bool = False


class Queued(TypedDict):
    """A run that waits for the clock."""

    id: int
    status: Literal["queued"]


class SweepShape(TypedDict):
    """A run as the API shows it; a dry one with a sample."""

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
    started_at: Moment | None
    finished_at: Moment | None
    heartbeat_at: Moment | None
    error: str | None
    sample: NotRequired[list[dict[str, Any]]]


@admin_sweeps.post("")
@admin_required
@api_operation("sweep_running")
def queue_sweep(wanted: SweepRequest) -> tuple[Queued, Literal[202], Mapping[str, str]]:
    """Queue a sweep for the clock, which picks it up within a second."""
    with transaction() as session:
        run = runs.queue(session, dry_run=wanted.dry_run, requested_by=g.context.user["id"])
    location = url_for("admin_sweeps.show_sweep", run_id=run.id)
    return {"id": run.id, "status": "queued"}, 202, {"Location": location}


@admin_sweeps.get("")
@admin_required
@api_operation()
def list_sweeps() -> Items[SweepShape]:
    """The latest runs, newest first."""
    newest = select(SweepRun).order_by(SweepRun.id.desc()).limit(LONGEST_LIST)
    with transaction() as session:
        return {"items": [serialize_sweep(run) for run in session.scalars(newest)]}


@admin_sweeps.get(f"/<{ID}:run_id>")
@admin_required
@api_operation()
def show_sweep(run_id: int) -> SweepShape:
    """One run, with its progress while it is on."""
    return serialize_sweep(the_run(run_id))


def the_run(run_id: int) -> SweepRun:
    """The run of that number; raises NotFoundError."""
    with transaction() as session:
        run = session.get(SweepRun, run_id)
    if run is None:
        raise NotFoundError(f"there is no sweep run {run_id}")
    return run


def serialize_sweep(run: SweepRun) -> SweepShape:
    """The run, ready to be told."""
    shape: SweepShape = {
        "id": run.id,
        "status": run.status,
        "trigger": run.trigger,
        "dry_run": run.dry_run,
        "total": run.total,
        "scanned": run.scanned,
        "created": run.created,
        "linked": run.linked,
        "existing": run.existing,
        "failed": run.failed,
        "ambiguous": run.ambiguous,
        "started_at": _moment(run.started_at),
        "finished_at": _moment(run.finished_at),
        "heartbeat_at": _moment(run.heartbeat_at),
        "error": run.error,
    }
    return {**shape, "sample": run.sample or []} if run.dry_run else shape


def _moment(moment: datetime | None) -> str | None:
    return iso_utc(moment) if moment else None
