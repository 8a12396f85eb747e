"""Operations for admins: the audit log as CSV, dead letters, the auto-create switch, sweeps."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired

import structlog
from flask import Blueprint, g, url_for
from sqlalchemy import select
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from blueprints.api.admin_audit import CSV_TITLES, AuditSearch, audit_filter, read_csv_batch
from blueprints.api.admin_users import Retried, ensure_user
from core.database import transaction
from core.types import Timestamp, one_of
from models import ProvisioningAttempt, SweepRun
from models.background import AttemptState, SweepStatus
from provisioning import admin_actions, attempts, audit
from provisioning.context import iso_utc
from sweep import runs
from web.access_policy import admin_required
from web.admin_change import admin_source, log_admin_action, run_with_retry
from web.api import api_operation
from web.csv_export import CsvFile, csv_response
from web.errors import HttpError
from web.services import services
from web.validation import (
    ID_CONVERTER,
    MAX_PAGE_SIZE,
    Body,
    Items,
    Listed,
    Paging,
    list_page,
)

admin_provisioning = Blueprint("admin_provisioning", __name__, url_prefix="/api/admin")
log = structlog.get_logger(__name__)


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


@admin_provisioning.get("/audit.csv")
@admin_required
@api_operation()
def download_audit(query: AuditSearch) -> CsvFile:
    """The audit log as CSV, newest events first, with the names of their users."""
    with transaction() as session:
        wanted = audit_filter(session, query)
    return csv_response(
        "registro.csv",
        CSV_TITLES,
        lambda session, before_id, limit: read_csv_batch(session, wanted, before_id, limit),
    )


@admin_provisioning.get("/dead-letters")
@admin_required
@api_operation()
def list_dead_letters(query: Paging) -> Listed[DeadLetter]:
    """Dead letters: users whose profile the background no longer tries to create."""
    with transaction() as session:
        letters = attempts.list_dead_letters(session, after_id=query.cursor, limit=query.limit)
    return list_page(letters, _serialize_dead_letter, limit=query.limit)


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


def _serialize_dead_letter(row: tuple[ProvisioningAttempt, int | None]) -> DeadLetter:
    attempt, user_id = row
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
    """Return the run with that id; raises HttpError `not_found`."""
    with transaction() as session:
        run = session.get(SweepRun, run_id)
    if run is None:
        raise HttpError("not_found", f"there is no sweep run {run_id}")
    return run


def serialize_sweep(run: SweepRun) -> SweepShape:
    """Return a run as JSON values."""
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
        "started_at": _optional_utc(run.started_at),
        "finished_at": _optional_utc(run.finished_at),
        "heartbeat_at": _optional_utc(run.heartbeat_at),
        "error": run.error,
    }
    return {**shape, "sample": run.sample or []} if run.dry_run else shape


def _optional_utc(moment: datetime | None) -> str | None:
    return iso_utc(moment) if moment else None
