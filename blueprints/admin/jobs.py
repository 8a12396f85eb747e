"""The admin console's jobs: long imports and goals of all mentees, with their progress."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.database import transaction
from dashboard import goal_changes
from models import AdminJob, Mentorado
from models.background import JobKind, JobStatus
from provisioning import jobs
from provisioning.imports import LONGEST_REPORT
from provisioning.preregistration import Verdict
from web.access_policy import admin_required
from web.admin_change import admin_source, run_with_retry, typed_reason
from web.csv_export import csv_file
from web.csv_import import MAX_SHOWN_LENGTH
from web.errors import HttpError
from web.services import services

MAX_INLINE_UNDO = 1_000  # profiles that a request restores at once; more are left to the thread
PREVIEW_TEXTS = {
    Verdict.NEW: "Será pré-cadastrado",
    Verdict.TAKES_OVER: "Vai completar o perfil automático, ainda sem uso: {profile}",
    Verdict.EXISTS: "Já existe: {profile}",
    Verdict.REPEATED: "Repete o e-mail da linha {earlier}",
    Verdict.REFUSED: "O banco de dados recusou esta linha. Envie-a de novo.",
}
RESULT_TEXTS = PREVIEW_TEXTS | {
    Verdict.NEW: "Pré-cadastrado",
    Verdict.TAKES_OVER: "Completou o perfil automático: {profile}",
}
People = Mapping[int, Mapping[str, str | None]]  # `name` and `email` of profiles, by id


def line_reports(
    session: Session, results: Sequence[Mapping[str, Any]], *, is_preview: bool
) -> list[dict[str, Any]]:
    """Return each result with its text, those with problems first; a long list is cut.

    The results of a preview contain names, addresses and goals. The report of an import has the
    current name and address of each profile, and those of rejected lines where they are kept.
    """
    people = _people_of(session, results)
    texts = PREVIEW_TEXTS if is_preview else RESULT_TEXTS
    reports = []
    for result in results:
        report = {"name": "—", "goals": {}, **result, "text": _line_text(result, texts, people)}
        person = people.get(result.get("mentorado_id", 0))
        if person is None:
            report["mentorado_id"] = None
        elif not is_preview:
            report.update(person)
        reports.append(report)
    return sorted(reports, key=lambda each: Verdict(each["verdict"]).is_good)[:LONGEST_REPORT]


def rejected_csv(
    file_name: str, titles: Sequence[str], results: Sequence[Mapping[str, Any]]
) -> Response:
    """Return rejected lines as CSV: all their texts as they were sent, and the reason."""
    with transaction() as session:
        people = _people_of(session, results)
    rows = []
    for result in results:
        cells = [*result["cells"], *[""] * len(titles)][: len(titles)]
        rows.append([*cells, _line_text(result, PREVIEW_TEXTS, people)])
    return csv_file(file_name, [[*titles, "Motivo"], *rows])


def _people_of(session: Session, results: Iterable[Mapping[str, Any]]) -> People:
    ids = [result["mentorado_id"] for result in results if "mentorado_id" in result]
    profiles = select(Mentorado.id, Mentorado.nome_completo, Mentorado.email)
    rows = session.execute(profiles.where(Mentorado.id.in_(ids))) if ids else ()
    return {row.id: {"name": row.nome_completo, "email": row.email} for row in rows}


def _line_text(result: Mapping[str, Any], texts: Mapping[Verdict, str], people: People) -> str:
    verdict, mentorado_id = Verdict(result["verdict"]), result.get("mentorado_id", 0)
    if verdict is Verdict.FAULTY:
        return " ".join(result.get("faults", ()))
    name = people[mentorado_id]["name"] if mentorado_id in people else "perfil excluído"
    profile = f"{name} (perfil nº {mentorado_id})"
    return texts[verdict].format(profile=profile, earlier=result.get("earlier"))


console_jobs = Blueprint("console_jobs", __name__, url_prefix="/admin/tarefas")

KEY_FIELD = "chave"  # the hidden field with the idempotency key of a form
CONFIRMED_FIELD = "confirmado"  # sent with a form whose preview was shown
HISTORY_SIZE = 50
KINDS = {JobKind.IMPORT: "Lista de mentorados", JobKind.GOALS: "Metas de todos"}


@console_jobs.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List the latest jobs of all admins, newest first."""
    newest = select(AdminJob).order_by(AdminJob.created_at.desc()).limit(HISTORY_SIZE)
    with transaction() as session:
        latest = session.scalars(newest).all()
    return render_template("console_jobs.html", jobs=latest, kinds=KINDS)


@console_jobs.get("/<uuid:job_id>")
@admin_required
def show(job_id: uuid.UUID) -> ResponseReturnValue:
    """Show one job: its progress and its result."""
    with transaction() as session:
        job = session.get(AdminJob, job_id)
        if job is None:
            raise HttpError("not_found", f"there is no job {job_id}")
        cells, rejected = _rejected_cells(session, job_id)
        is_import = job.kind == JobKind.IMPORT
        results = [
            {**_person_in(job, cells.get(result["line"])), **result}
            for result in (job.results if is_import and not job.is_active else ())
        ]
        reports = line_reports(session, results, is_preview=job.dry_run)
        is_undone = session.get(AdminJob, _undo_key(job)) is not None
    if job.is_active:
        services().jobs.wake()  # its process may have died, and there may be no scheduler
    return render_template(
        "console_import_job.html" if is_import else "console_goals_job.html",
        job=job,
        good=sum(job.counts.get(verdict, 0) for verdict in Verdict if verdict.is_good),
        reports=reports,
        columns=job.options.get("columns", {}),
        rejected=rejected,
        can_undo=_can_undo(job) and not is_undone,
        is_undone=is_undone,
    )


@console_jobs.get("/<uuid:job_id>/recusadas.csv")
@admin_required
def rejected(job_id: uuid.UUID) -> Response:
    """Return the lines of a list that were not registered, with the reasons; kept for a day."""
    with transaction() as session:
        job = jobs.find(session, job_id)
        results = job.rejected or []
    titles = job.options.get("columns", {}).get("titles", ())
    return rejected_csv(f"linhas-recusadas-{job.created_at:%Y-%m-%d}.csv", titles, results)


@console_jobs.post("/<uuid:job_id>/confirmar")
@admin_required
def confirm(job_id: uuid.UUID) -> ResponseReturnValue:
    """Confirm the preview of a long list; a second confirmation has no effect."""
    reason = typed_reason()
    run_with_retry(lambda session: jobs.confirm(session, job_id, source=admin_source(reason)))
    services().jobs.wake()
    return redirect(url_for(".show", job_id=job_id), code=303)


@console_jobs.post("/<uuid:job_id>/descartar")
@admin_required
def discard(job_id: uuid.UUID) -> ResponseReturnValue:
    """Delete a preview with its list."""
    run_with_retry(lambda session: jobs.discard(session, job_id))
    return redirect(url_for("console_imports.show_form"), code=303)


@console_jobs.post("/<uuid:job_id>/desfazer")
@admin_required
def undo(job_id: uuid.UUID) -> ResponseReturnValue:
    """Undo a change of the goals of all, once: its form key follows from the job."""
    with transaction() as session:
        job = jobs.find(session, job_id)
        options = goal_changes.undo_options(session, job) if _can_undo(job) else None
    if options is None:
        raise HttpError("conflict", f"the job {job_id} cannot be undone")
    job_request = jobs.JobRequest(_undo_key(job), JobKind.GOALS, admin_source(), options)
    return start_job(job_request, is_short=job.scanned <= MAX_INLINE_UNDO)


def _undo_key(job: AdminJob) -> uuid.UUID:
    """Return the key of the job that undoes this one."""
    return uuid.uuid5(job.id, "undo")


def _can_undo(job: AdminJob) -> bool:
    """Whether the job has changed the goals of mentees and is no undo itself."""
    is_change = job.kind == JobKind.GOALS and "undo" not in job.options
    return is_change and not job.is_active and job.scanned > 0


def start_job(job_request: jobs.JobRequest, *, is_short: bool) -> ResponseReturnValue:
    """Queue the job and redirect to its page; a short one runs at once. Raises KeyReusedError."""
    job = run_with_retry(lambda session: jobs.add(session, job_request))
    if is_short and job.status == JobStatus.QUEUED:
        services().jobs.run_now(job.id)
    services().jobs.wake()
    return redirect(url_for("console_jobs.show", job_id=job.id), code=303)


def form_key() -> uuid.UUID:
    """Return the form's idempotency key; a new one if the form has none."""
    with suppress(ValueError):
        return uuid.UUID(request.form.get(KEY_FIELD, ""))
    return uuid.uuid4()


def _rejected_cells(session: Session, job_id: uuid.UUID) -> tuple[dict[int, list[str]], int]:
    """Return the cells of the rejected lines that a page shows, by line, and how many there are."""
    shown = func.jsonb_path_query_array(AdminJob.rejected, f"$[0 to {LONGEST_REPORT - 1}]")
    number = func.coalesce(func.jsonb_array_length(AdminJob.rejected), 0)
    lines, count = session.execute(select(shown, number).where(AdminJob.id == job_id)).one()
    return {line["line"]: line["cells"] for line in lines or ()}, count


def _person_in(job: AdminJob, cells: list[str] | None) -> dict[str, str]:
    """Return the name and address in the cells of a rejected line, as long as they are kept."""
    fields = job.options.get("columns", {}).get("fields", ())
    values = dict(zip(fields, cells or (), strict=False))
    named = {"name": values.get("nome_completo", ""), "email": values.get("email", "")}
    return {key: value[:MAX_SHOWN_LENGTH] for key, value in named.items() if value}
