"""The admin console's jobs: long lists and goals of all, watched while they are being done."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.database import transaction
from models import AdminJob, Mentorado
from models.admin_job import JobKind, JobStatus
from provisioning import jobs
from provisioning.imports import LONGEST_REPORT, LineVerdict
from web.access_policy import admin_required
from web.admin_change import admin_source, run_with_retry
from web.admin_labels import FACTS
from web.errors import NotFoundError
from web.formatting import month_name
from web.services import services
from web.validation import WithReason, checked

FORESEEN = {
    LineVerdict.NEW: "Será pré-cadastrado",
    LineVerdict.TAKES_OVER: "Vai completar o perfil automático nº {mentorado_id}, ainda sem uso",
    LineVerdict.EXISTS: "Já existe: perfil nº {mentorado_id}",
    LineVerdict.REPEATED: "Repete o e-mail da linha {earlier}",
    LineVerdict.REFUSED: "O banco de dados recusou esta linha. Envie-a de novo.",
}
DONE = FORESEEN | {
    LineVerdict.NEW: "Pré-cadastrado: perfil nº {mentorado_id}",
    LineVerdict.TAKES_OVER: "Completou o perfil automático nº {mentorado_id}",
}


@dataclass(frozen=True, slots=True)
class Report:
    """A line with what came of it; the profile's number where there is one to look at."""

    line: int
    name: str
    email: str | None
    words: str
    is_good: bool
    mentorado_id: int | None


def count_good(counts: Mapping[str, int]) -> int:
    """How many lines were registered, or would be."""
    return sum(number for verdict, number in counts.items() if LineVerdict(verdict).is_good)


def previewed(results: Iterable[Mapping[str, Any]]) -> list[Report]:
    """What would come of each line; the results have its name and address."""
    return _in_order(
        _report(result, FORESEEN, result["name"], result["email"]) for result in results
    )


def imported(session: Session, job: AdminJob) -> list[Report]:
    """What came of the lines that a job has kept, with what their profiles say by now."""
    ids = [result["mentorado_id"] for result in job.results if "mentorado_id" in result]
    profiles = select(Mentorado.id, Mentorado.nome_completo, Mentorado.email)
    rows = session.execute(profiles.where(Mentorado.id.in_(ids))) if ids else ()
    people = {row.id: (row.nome_completo, row.email) for row in rows}
    return _in_order(
        _report(result, DONE, *people.get(result.get("mentorado_id"), ("—", None)))
        for result in job.results
    )


def _in_order(reports: Iterable[Report]) -> list[Report]:
    """What needs a look comes first; of a long list the rest is only counted."""
    found: Sequence[Report] = sorted(reports, key=lambda report: report.is_good)
    return list(found[:LONGEST_REPORT])


def _report(
    result: Mapping[str, Any], words: Mapping[LineVerdict, str], name: str, email: str | None
) -> Report:
    verdict, mentorado_id = LineVerdict(result["verdict"]), result.get("mentorado_id")
    if verdict is LineVerdict.FAULTY:
        told = "; ".join(result.get("faults", ()))
    else:
        told = words[verdict].format(mentorado_id=mentorado_id, earlier=result.get("earlier"))
    return Report(result["line"], name, email, told, verdict.is_good, mentorado_id)


console_jobs = Blueprint("console_jobs", __name__, url_prefix="/admin/tarefas")

KEY = "chave"  # the hidden field with the idempotency key of a form
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
    """The latest jobs of all admins, newest first."""
    return render_template("console_jobs.html", jobs=_latest_jobs(), statuses=STATUSES, kinds=KINDS)


@console_jobs.get("/<uuid:job_id>")
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
        services().jobs.wake()  # its process may have died, and no scheduler may be on
    return render_template(
        "console_import_job.html" if job.kind == JobKind.IMPORT else "console_goals_job.html",
        job=job,
        status=STATUSES[JobStatus(job.status)],
        good=count_good(job.counts) if job.kind == JobKind.IMPORT else 0,
        reports=reports,
        goals=_goals(job),
    )


@console_jobs.post("/<uuid:job_id>/confirmar")
@admin_required
def confirm(job_id: uuid.UUID) -> ResponseReturnValue:
    """Do what a long list's preview has shown; a second click finds it confirmed already."""
    reason = checked(WithReason, {"reason": request.form.get("reason", "")}).reason
    try:
        run_with_retry(lambda session: jobs.confirm(session, job_id, source=admin_source(reason)))
    except jobs.UnknownJobError as err:
        raise NotFoundError(str(err)) from err
    services().jobs.wake()
    return redirect(url_for(".show", job_id=job_id), code=303)


@console_jobs.post("/<uuid:job_id>/descartar")
@admin_required
def discard(job_id: uuid.UUID) -> ResponseReturnValue:
    """Delete a preview and the list that it is about."""
    run_with_retry(lambda session: jobs.discard(session, job_id))
    return redirect(url_for("console_imports.ask"), code=303)


def start(wanted: jobs.JobRequest, *, is_short: bool) -> ResponseReturnValue:
    """Queue the job and lead to its page; a short one is done before the page is there.

    Raises KeyReusedError.
    """
    job = run_with_retry(lambda session: jobs.add(session, wanted))
    if is_short and job.status == JobStatus.QUEUED:
        services().jobs.run_now(job.id)
    services().jobs.wake()
    return redirect(url_for("console_jobs.show", job_id=job.id), code=303)


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
