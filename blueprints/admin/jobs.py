"""The admin console's jobs: long imports and goals of all mentees, with their progress."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.database import transaction
from dashboard import mass_goals
from models import AdminJob, Mentorado
from models.admin_job import JobKind, JobStatus
from provisioning import jobs
from provisioning.imports import LONGEST_REPORT, LineVerdict
from web.access_policy import admin_required
from web.admin_change import admin_source, run_with_retry
from web.admin_labels import FACTS
from web.errors import HttpError
from web.formatting import month_name
from web.services import services
from web.validation import WithReason, validate_model

MAX_INLINE_UNDO = 1_000  # profiles that a request restores at once; more are left to the thread
PREVIEW_TEXTS = {
    LineVerdict.NEW: "Será pré-cadastrado",
    LineVerdict.TAKES_OVER: "Vai completar o perfil automático nº {mentorado_id}, ainda sem uso",
    LineVerdict.EXISTS: "Já existe: perfil nº {mentorado_id}",
    LineVerdict.REPEATED: "Repete o e-mail da linha {earlier}",
    LineVerdict.REFUSED: "O banco de dados recusou esta linha. Envie-a de novo.",
}
RESULT_TEXTS = PREVIEW_TEXTS | {
    LineVerdict.NEW: "Pré-cadastrado: perfil nº {mentorado_id}",
    LineVerdict.TAKES_OVER: "Completou o perfil automático nº {mentorado_id}",
}


@dataclass(frozen=True, slots=True)
class LineReport:
    """A line of an import with its result; `mentorado_id` if there is a profile to link to."""

    line: int
    name: str
    email: str | None
    text: str
    is_good: bool
    mentorado_id: int | None


def count_good(counts: Mapping[str, int]) -> int:
    """Return how many lines were registered, or would be."""
    return sum(number for verdict, number in counts.items() if LineVerdict(verdict).is_good)


def preview_reports(results: Iterable[Mapping[str, Any]]) -> list[LineReport]:
    """Return the report of each line of a preview; the results contain name and address."""
    return _problems_first(
        _report(result, PREVIEW_TEXTS, result["name"], result["email"]) for result in results
    )


def import_reports(session: Session, job: AdminJob) -> list[LineReport]:
    """Return the report of each recorded line, with the current name and address of its profile."""
    ids = [result["mentorado_id"] for result in job.results if "mentorado_id" in result]
    profiles = select(Mentorado.id, Mentorado.nome_completo, Mentorado.email)
    rows = session.execute(profiles.where(Mentorado.id.in_(ids))) if ids else ()
    profiles_by_id = {row.id: (row.nome_completo, row.email) for row in rows}
    return _problems_first(
        _report(result, RESULT_TEXTS, *profiles_by_id.get(result.get("mentorado_id"), ("—", None)))
        for result in job.results
    )


def _line_reports(session: Session, job: AdminJob) -> list[LineReport]:
    """Return the report of each line of a finished import; nothing for other jobs."""
    if job.kind != JobKind.IMPORT or job.is_active:
        return []
    return preview_reports(job.results) if job.dry_run else import_reports(session, job)


def _problems_first(reports: Iterable[LineReport]) -> list[LineReport]:
    """Sort lines with problems first, and cut a long list, whose rest is only counted."""
    ordered: Sequence[LineReport] = sorted(reports, key=lambda report: report.is_good)
    return list(ordered[:LONGEST_REPORT])


def _report(
    result: Mapping[str, Any], texts: Mapping[LineVerdict, str], name: str, email: str | None
) -> LineReport:
    verdict, mentorado_id = LineVerdict(result["verdict"]), result.get("mentorado_id")
    if verdict is LineVerdict.FAULTY:
        text = "; ".join(result.get("faults", ()))
    else:
        text = texts[verdict].format(mentorado_id=mentorado_id, earlier=result.get("earlier"))
    return LineReport(result["line"], name, email, text, verdict.is_good, mentorado_id)


console_jobs = Blueprint("console_jobs", __name__, url_prefix="/admin/tarefas")

KEY_FIELD = "chave"  # the hidden field with the idempotency key of a form
HISTORY_SIZE = 50
STATUSES = {
    JobStatus.QUEUED: "na fila",
    JobStatus.RUNNING: "em andamento",
    JobStatus.SUCCEEDED: "concluída",
    JobStatus.FAILED: "com erro",
}
KINDS = {JobKind.IMPORT: "Lista de mentorados", JobKind.GOALS: "Metas de todos"}


@console_jobs.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List the latest jobs of all admins, newest first."""
    return render_template("console_jobs.html", jobs=_latest_jobs(), statuses=STATUSES, kinds=KINDS)


@console_jobs.get("/<uuid:job_id>")
@admin_required
def show(job_id: uuid.UUID) -> ResponseReturnValue:
    """Show one job: its progress and its result."""
    with transaction() as session:
        job = session.get(AdminJob, job_id)
        if job is None:
            raise HttpError("not_found", f"there is no job {job_id}")
        reports = _line_reports(session, job)
        is_undone = session.get(AdminJob, _undo_key(job)) is not None
    if job.is_active:
        services().jobs.wake()  # its process may have died, and there may be no scheduler
    return render_template(
        "console_import_job.html" if job.kind == JobKind.IMPORT else "console_goals_job.html",
        job=job,
        status=STATUSES[JobStatus(job.status)],
        good=count_good(job.counts) if job.kind == JobKind.IMPORT else 0,
        reports=reports,
        goals=_goal_lines(job),
        can_undo=_can_undo(job) and not is_undone,
        is_undone=is_undone,
    )


@console_jobs.post("/<uuid:job_id>/confirmar")
@admin_required
def confirm(job_id: uuid.UUID) -> ResponseReturnValue:
    """Confirm the preview of a long list; a second confirmation has no effect."""
    reason = validate_model(WithReason, {"reason": request.form.get("reason", "")}).reason
    run_with_retry(lambda session: jobs.confirm(session, job_id, source=admin_source(reason)))
    services().jobs.wake()
    return redirect(url_for(".show", job_id=job_id), code=303)


@console_jobs.post("/<uuid:job_id>/descartar")
@admin_required
def discard(job_id: uuid.UUID) -> ResponseReturnValue:
    """Delete a preview with its list."""
    run_with_retry(lambda session: jobs.discard(session, job_id))
    return redirect(url_for("console_imports.ask"), code=303)


@console_jobs.post("/<uuid:job_id>/desfazer")
@admin_required
def undo(job_id: uuid.UUID) -> ResponseReturnValue:
    """Undo a change of the goals of all, once: its form key follows from the job."""
    with transaction() as session:
        job = jobs.find(session, job_id)
        options = mass_goals.undo_options(session, job) if _can_undo(job) else None
    if options is None:
        raise HttpError("conflict", f"the job {job_id} cannot be undone")
    job_request = jobs.JobRequest(
        key=_undo_key(job), kind=JobKind.GOALS, source=admin_source(), options=options
    )
    return start_job(job_request, is_short=job.scanned <= MAX_INLINE_UNDO)


def _undo_key(job: AdminJob) -> uuid.UUID:
    """Return the key of the job that undoes this one."""
    return uuid.uuid5(job.id, "undo")


def _can_undo(job: AdminJob) -> bool:
    """Whether the job has changed the goals of mentees and is no undo itself."""
    is_change = job.kind == JobKind.GOALS and "undo" not in job.options
    return is_change and not job.is_active and job.scanned > 0


def start_job(job_request: jobs.JobRequest, *, is_short: bool) -> ResponseReturnValue:
    """Queue the job and redirect to its page; a short job runs at once.

    Raises KeyReusedError.
    """
    job = run_with_retry(lambda session: jobs.add(session, job_request))
    if is_short and job.status == JobStatus.QUEUED:
        services().jobs.run_now(job.id)
    services().jobs.wake()
    return redirect(url_for("console_jobs.show", job_id=job.id), code=303)


def form_key() -> uuid.UUID:
    """Return the form's idempotency key; a new one if the form has none."""
    try:
        return uuid.UUID(request.form.get(KEY_FIELD, ""))
    except ValueError:
        return uuid.uuid4()


def _latest_jobs() -> Sequence[AdminJob]:
    with transaction() as session:
        newest = select(AdminJob).order_by(AdminJob.created_at.desc()).limit(HISTORY_SIZE)
        return session.scalars(newest).all()


def _goal_lines(job: AdminJob) -> list[tuple[str, str]]:
    """Return the month and the goals that a job sets, by label."""
    if job.kind != JobKind.GOALS:
        return []
    month = job.options["month"]
    lines = [("Mês", month_name(month[1], month[0]) if month else "meta padrão")]
    return lines + [
        (FACTS[name], f"{value:,}".replace(",", "."))
        for name, value in job.options["goals"].items()
    ]
