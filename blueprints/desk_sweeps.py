"""The support desk's sweeps: started, watched, and looked back on."""

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from blueprints.admin_sweeps import the_run
from blueprints.lists import ID
from blueprints.stance import admin_required
from blueprints.toasts import tell
from extensions import transaction
from models import SweepRun
from models.sweep_run import SweepStatus
from provisioning import runs

desk_sweeps = Blueprint("desk_sweeps", __name__, url_prefix="/admin/varreduras")

HISTORY_SIZE = 50
STATUSES = {
    SweepStatus.QUEUED: "na fila",
    SweepStatus.RUNNING: "em andamento",
    SweepStatus.SUCCEEDED: "concluída",
    SweepStatus.FAILED: "com erro",
    SweepStatus.ABANDONED: "abandonada",
}
TRIGGERS = {"clock": "relógio", "admin": "administração", "cli": "terminal"}


@desk_sweeps.get("")
@admin_required
def index() -> ResponseReturnValue:
    """The latest runs, newest first."""
    newest = select(SweepRun).order_by(SweepRun.id.desc()).limit(HISTORY_SIZE)
    with transaction() as session:
        found = session.scalars(newest).all()
    return render_template("desk_sweeps.html", runs=found, statuses=STATUSES, triggers=TRIGGERS)


@desk_sweeps.post("")
@admin_required
def start() -> ResponseReturnValue:
    """Queue a sweep for the clock; one that is queued or running already is shown instead."""
    is_dry = request.form.get("ensaio") == "sim"
    try:
        with transaction() as session:
            run_id = runs.queue(session, dry_run=is_dry, requested_by=g.context.user["id"]).id
    except runs.SweepRunningError as err:
        tell("Já há uma varredura na fila ou em andamento: é esta.")
        run_id = err.run_id
    return redirect(url_for(".show", run_id=run_id), code=303)


@desk_sweeps.get(f"/<{ID}:run_id>")
@admin_required
def show(run_id: int) -> ResponseReturnValue:
    """One run: how far it is, and what it did."""
    run = the_run(run_id)
    is_active = run.status in runs.ACTIVE
    return render_template(
        "desk_sweep.html", run=run, is_active=is_active, statuses=STATUSES, triggers=TRIGGERS
    )
