"""Sweeps by request of an admin, and how the latest ones went."""

from typing import Any

from flask import Blueprint, g, jsonify, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from blueprints.bodies import Body, read_body
from blueprints.errors import NotFoundError
from blueprints.lists import ID, LONGEST_LIST
from blueprints.stance import admin_required
from extensions import transaction
from models import SweepRun
from provisioning import runs
from session_context import iso_utc

admin_sweeps = Blueprint("admin_sweeps", __name__, url_prefix="/api/admin/sweeps")


class SweepRequest(Body):
    """How to sweep; a dry run only counts."""

    dry_run: bool = False


@admin_sweeps.post("")
@admin_required
def queue_sweep() -> ResponseReturnValue:
    """Queue a sweep for the clock, which picks it up within a second."""
    wanted = read_body(SweepRequest)
    with transaction() as session:
        run = runs.queue(session, dry_run=wanted.dry_run, requested_by=g.context.user["id"])
    location = url_for("admin_sweeps.show_sweep", run_id=run.id)
    return {"id": run.id, "status": run.status}, 202, {"Location": location}


@admin_sweeps.get("")
@admin_required
def list_sweeps() -> ResponseReturnValue:
    """The latest runs, newest first."""
    newest = select(SweepRun).order_by(SweepRun.id.desc()).limit(LONGEST_LIST)
    with transaction() as session:
        return jsonify({"items": [sweep_shape(run) for run in session.scalars(newest)]})


@admin_sweeps.get(f"/<{ID}:run_id>")
@admin_required
def show_sweep(run_id: int) -> ResponseReturnValue:
    """One run, with its progress while it is on."""
    return jsonify(sweep_shape(the_run(run_id)))


def the_run(run_id: int) -> SweepRun:
    """The run of that number; raises NotFoundError."""
    with transaction() as session:
        run = session.get(SweepRun, run_id)
    if run is None:
        raise NotFoundError(f"there is no sweep run {run_id}")
    return run


def sweep_shape(run: SweepRun) -> dict[str, Any]:
    """A run as the API shows it (CONTRACT section 4.2); a dry one with a sample."""
    counts = ("total", "scanned", "created", "linked", "existing", "failed", "ambiguous")
    times = {name: getattr(run, name) for name in ("started_at", "finished_at", "heartbeat_at")}
    return {
        "id": run.id,
        "status": run.status,
        "trigger": run.trigger,
        "dry_run": run.dry_run,
        **{name: getattr(run, name) for name in counts},
        **{name: iso_utc(moment) if moment else None for name, moment in times.items()},
        "error": run.error,
        **({"sample": run.sample or []} if run.dry_run else {}),
    }
