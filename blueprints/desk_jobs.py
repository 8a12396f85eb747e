"""The admin console's jobs: long lists and goals of all, watched while they are being done."""

import uuid
from collections.abc import Sequence

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from blueprints.acting import admins_entry
from blueprints.bodies import Because, checked
from blueprints.desk_words import FACTS
from blueprints.errors import NotFoundError
from blueprints.import_reports import count_good, imported, previewed
from blueprints.retrying import run_with_retry
from blueprints.stance import admin_required
from blueprints.words import month_name
from extensions import transaction
from house import house
from models import AdminJob
from models.admin_job import JobKind, JobStatus
from provisioning import jobs

desk_jobs = Blueprint("desk_jobs", __name__, url_prefix="/admin/tarefas")

KEY = "chave"  # the hidden field with the idempotency key of a form
HISTORY_SIZE = 50
STATUSES = {
    JobStatus.QUEUED: "na fila",
    JobStatus.RUNNING: "em andamento",
    JobStatus.SUCCEEDED: "concluída",
    JobStatus.FAILED: "com erro",
}
KINDS = {JobKind.IMPORT: "Lista de mentorados", JobKind.GOALS: "Metas de todos"}


@desk_jobs.get("")
@admin_required
def index() -> ResponseReturnValue:
    """The latest jobs of all admins, newest first."""
    return render_template("desk_jobs.html", jobs=_latest_jobs(), statuses=STATUSES, kinds=KINDS)


@desk_jobs.get("/<uuid:job_id>")
@admin_required
def show(job_id: uuid.UUID) -> ResponseReturnValue:
    """One job: how far it is, and what it has come to."""
    with transaction() as session:
        job = session.get(AdminJob, job_id)
        if job is None:
            raise NotFoundError(f"there is no job {job_id}")
        is_over = job.kind == JobKind.IMPORT and not job.is_active
        reports = (
            [] if not is_over else previewed(job.results) if job.dry_run else imported(session, job)
        )
    if job.is_active:
        house().jobs.wake()  # its process may have died, and no scheduler may be on
    return render_template(
        "desk_import_job.html" if job.kind == JobKind.IMPORT else "desk_goals_job.html",
        job=job,
        status=STATUSES[JobStatus(job.status)],
        good=count_good(job.counts) if job.kind == JobKind.IMPORT else 0,
        reports=reports,
        goals=_goals(job),
    )


@desk_jobs.post("/<uuid:job_id>/confirmar")
@admin_required
def confirm(job_id: uuid.UUID) -> ResponseReturnValue:
    """Do what a long list's preview has shown; a second click finds it confirmed already."""
    reason = checked(Because, {"reason": request.form.get("reason", "")}).reason
    try:
        run_with_retry(lambda session: jobs.confirm(session, job_id, entry=admins_entry(reason)))
    except jobs.UnknownJobError as err:
        raise NotFoundError(str(err)) from err
    house().jobs.wake()
    return redirect(url_for(".show", job_id=job_id), code=303)


@desk_jobs.post("/<uuid:job_id>/descartar")
@admin_required
def discard(job_id: uuid.UUID) -> ResponseReturnValue:
    """Delete a preview and the list that it is about."""
    run_with_retry(lambda session: jobs.discard(session, job_id))
    return redirect(url_for("desk_enrol.ask"), code=303)


def start(wanted: jobs.JobRequest, *, is_short: bool) -> ResponseReturnValue:
    """Queue the job and lead to its page; a short one is done before the page is there.

    Raises KeyReusedError.
    """
    job = run_with_retry(lambda session: jobs.add(session, wanted))
    if is_short and job.status == JobStatus.QUEUED:
        house().jobs.run_now(job.id)
    house().jobs.wake()
    return redirect(url_for("desk_jobs.show", job_id=job.id), code=303)


def form_key() -> uuid.UUID:
    """The key that the form came with; a new one for a form that has none."""
    try:
        return uuid.UUID(request.form.get(KEY, ""))
    except ValueError:
        return uuid.uuid4()


def _latest_jobs() -> Sequence[AdminJob]:
    with transaction() as session:
        newest = select(AdminJob).order_by(AdminJob.created_at.desc()).limit(HISTORY_SIZE)
        return session.scalars(newest).all()


def _goals(job: AdminJob) -> list[tuple[str, str]]:
    """What a job that sets goals is about, by its name."""
    if job.kind != JobKind.GOALS:
        return []
    month = job.options["month"]
    told = [("Mês", month_name(month[1], month[0]) if month else "meta padrão")]
    return told + [
        (FACTS[name], f"{value:,}".replace(",", "."))
        for name, value in job.options["goals"].items()
    ]
