"""The state of the system: statistics, health, the auto-create switch, sweeps, audit log."""

from typing import Annotated

from flask import Blueprint, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from blueprints.api.admin_operations import KINDS, AuditSearch, audit_filter, get_run
from core import metrics
from core.database import transaction
from models import SweepRun
from provisioning import admin_actions, attempts
from provisioning.audit import read_events, read_names, read_user_names
from provisioning.errors import DatabaseUnavailableError
from sweep import runs
from sweep.stats import read_stats
from web import health
from web.access_policy import admin_required
from web.admin_change import admin_source, log, log_admin_action, run_with_retry, typed_reason
from web.errors import InvalidInputError
from web.request_context import flash_user
from web.services import services
from web.validation import ID_CONVERTER, EventCursor, read_query

console_system = Blueprint("console_system", __name__, url_prefix="/admin")


@console_system.get("/sistema")
@admin_required
def show_system() -> ResponseReturnValue:
    """Show the last day's provisioning, the backlog and the health of each part."""
    now = services().now()
    with transaction() as session:
        stats = read_stats(session, now=now)
    reading, directory = services().backlog.read(), services().provisioning.directory
    if reading is None:
        raise DatabaseUnavailableError("the backlog could not be counted")
    return render_template(
        "console_system.html",
        stats=stats,
        backlog=reading.backlog,
        now=now,
        is_forced_off=not services().config.enable_auto_create,
        redis=health.redis(is_configured=services().config.redis_url is not None),
        hit_ratio=metrics.cache_hit_ratio(),
        is_clerk_answering=directory is None or directory.is_answering,
    )


@console_system.get("/criacao-automatica")
@admin_required
def confirm_auto_create() -> ResponseReturnValue:
    """Show what switching automatic creation would change."""
    with transaction() as session:
        is_on = admin_actions.is_auto_create_on(session)
    return render_template("console_auto_create.html", is_on=is_on)


@console_system.post("/criacao-automatica")
@admin_required
def set_auto_create() -> ResponseReturnValue:
    """Switch the automatic creation of profiles on or off, in every process at once."""
    if request.form.get("ligar") not in ("sim", "nao"):  # must not switch anything off
        message = "Diga se é para ligar ou para desligar."
        raise InvalidInputError([{"field": "ligar", "message": message}])
    enabled, source = request.form["ligar"] == "sim", admin_source(typed_reason())
    with transaction() as session:
        is_changed = admin_actions.is_auto_create_on(session) != enabled
        if is_changed:
            admin_actions.set_auto_create(session, on=enabled, source=source, now=services().now())
    if is_changed:  # a repeated request has changed nothing
        log.warning("auto_create_changed", enabled=enabled, entry="admin")
    flash_user("Criação automática ligada." if enabled else "Criação automática desligada.")
    return redirect(url_for(".show_system"), code=303)


@console_system.post("/sistema/tentar")
@admin_required
def retry_all() -> ResponseReturnValue:
    """Make all failed attempts due and queue a sweep, which retries them."""
    source, now = admin_source(), services().now()
    count = run_with_retry(lambda session: attempts.reset_all_attempts(session, now, source=source))
    if not count:
        flash_user("Não há falhas em aberto.")
        return redirect(url_for(".show_system"), code=303)
    log_admin_action("retry_all")
    services().backlog.invalidate()
    return _queue_sweep(is_dry=False)


def is_creation_paused() -> bool:
    """Whether automatic creation is off, for the banner of the console's pages."""
    if not services().config.enable_auto_create:
        return True
    try:
        with transaction() as session:
            return not admin_actions.is_auto_create_on(session)
    except SQLAlchemyError:
        return False  # the page itself shows the outage


console_sweeps = Blueprint("console_sweeps", __name__, url_prefix="/admin/varreduras")

PAGE_SIZE = 50


@console_sweeps.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List the latest runs, newest first."""
    newest = select(SweepRun).order_by(SweepRun.id.desc()).limit(PAGE_SIZE)
    with transaction() as session:
        latest = session.scalars(newest).all()
    return render_template("console_sweeps.html", runs=latest)


@console_sweeps.post("")
@admin_required
def start() -> ResponseReturnValue:
    """Queue a sweep; if one is queued or running, show that one."""
    return _queue_sweep(is_dry=request.form.get("ensaio") == "sim")


def _queue_sweep(*, is_dry: bool) -> ResponseReturnValue:
    """Queue a sweep and redirect to its page, or to the one that is queued or running."""
    try:
        with transaction() as session:
            run_id = runs.queue(session, dry_run=is_dry, requested_by=g.context.user["id"]).id
        services().activity.wake_scheduler()
    except runs.SweepRunningError as err:
        flash_user("Já há uma varredura na fila ou em andamento: é esta.")
        run_id = err.run_id
    return redirect(url_for("console_sweeps.show", run_id=run_id), code=303)


@console_sweeps.get(f"/<{ID_CONVERTER}:run_id>")
@admin_required
def show(run_id: int) -> ResponseReturnValue:
    """Show one run: its progress and its result."""
    run = get_run(run_id)
    with transaction() as session:
        names = read_user_names(session, [found["user_id"] for found in run.sample or ()])
    is_active = run.status in runs.ACTIVE
    return render_template("console_sweep.html", run=run, names=names, is_active=is_active)


console_audit = Blueprint("console_audit", __name__, url_prefix="/admin/registro")


class AuditPage(AuditSearch):
    """Filters and page of the audit log."""

    cursor: Annotated[EventCursor, "the last event of the previous page"] = 0


@console_audit.get("")
@admin_required
def show_audit_log() -> ResponseReturnValue:
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
        events=events,
        names=names,
        cursor=events[-1].id if len(events) == PAGE_SIZE else None,
    )
