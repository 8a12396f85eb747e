"""Sweeps by request of an admin, and how the latest ones went."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired

from flask import Blueprint, g, url_for
from sqlalchemy import select
from typing_extensions import TypedDict

from blueprints.bodies import Body
from blueprints.described import described
from blueprints.errors import NotFoundError
from blueprints.lists import ID, Items
from blueprints.queries import LONGEST_LIST
from blueprints.stance import admin_required
from extensions import transaction
from models import SweepRun
from models.sweep_run import SweepStatus
from provisioning import runs
from session_context import iso_utc
from shapes import Moment, one_of

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
@described("sweep_running")
def queue_sweep(wanted: SweepRequest) -> tuple[Queued, Literal[202], Mapping[str, str]]:
    """Queue a sweep for the clock, which picks it up within a second."""
    with transaction() as session:
        run = runs.queue(session, dry_run=wanted.dry_run, requested_by=g.context.user["id"])
    location = url_for("admin_sweeps.show_sweep", run_id=run.id)
    return {"id": run.id, "status": "queued"}, 202, {"Location": location}


@admin_sweeps.get("")
@admin_required
@described()
def list_sweeps() -> Items[SweepShape]:
    """The latest runs, newest first."""
    newest = select(SweepRun).order_by(SweepRun.id.desc()).limit(LONGEST_LIST)
    with transaction() as session:
        return {"items": [sweep_shape(run) for run in session.scalars(newest)]}


@admin_sweeps.get(f"/<{ID}:run_id>")
@admin_required
@described()
def show_sweep(run_id: int) -> SweepShape:
    """One run, with its progress while it is on."""
    return sweep_shape(the_run(run_id))


def the_run(run_id: int) -> SweepRun:
    """The run of that number; raises NotFoundError."""
    with transaction() as session:
        run = session.get(SweepRun, run_id)
    if run is None:
        raise NotFoundError(f"there is no sweep run {run_id}")
    return run


def sweep_shape(run: SweepRun) -> SweepShape:
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
