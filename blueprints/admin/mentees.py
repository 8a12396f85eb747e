"""The admin console's mentees: list, dashboards, deleted profiles, and pre-registration."""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from pydantic import BeforeValidator
from sqlalchemy import select

from blueprints.admin import jobs
from blueprints.admin.change_types import destructive_changes_of_profile
from core.database import transaction
from dashboard.chart import draw_chart
from dashboard.month_view import view_month
from dashboard.months import read_report
from dashboard.periods import current_period
from models import Mentorado, User
from models.background import JobKind
from provisioning import audit, deleted_profiles
from provisioning.deleted_profiles import DeletedProfile
from provisioning.errors import ConflictError
from provisioning.imports import (
    LineResult,
    ListColumns,
    UnreadableListError,
    preview_list,
)
from provisioning.jobs import JobRequest, KeyReusedError
from provisioning.preregistration import Verdict
from provisioning.references import count_references
from provisioning.user_lists import MenteeKind, list_mentees
from web import csv_import
from web.access_policy import admin_required
from web.admin_change import admin_source, run_admin_transaction, typed_reason
from web.admin_labels import CONFLICTS, FACTS
from web.csv_export import csv_file
from web.errors import FieldErrors, HttpError, InvalidInputError
from web.month_input import FORM_INPUT, selected_measure
from web.problem_responses import MAX_FORM_BYTES
from web.request_context import flash_user
from web.services import services
from web.validation import ID_CONVERTER, Search, read_query, search_term, validate_model

console_mentees = Blueprint("console_mentees", __name__, url_prefix="/admin/mentorados")

PROFILE_PATH = f"/<{ID_CONVERTER}:mentorado_id>"
PAGE_SIZE = 50  # also of the history
Kind = BeforeValidator(lambda text: text if text in list(MenteeKind) else None)


class MenteesPage(Search):
    """Filters of the list; an unknown kind means all kinds."""

    tipo: Annotated[MenteeKind | None, Kind] = None


@console_mentees.get("")
@admin_required
def index() -> ResponseReturnValue:
    """List profiles by id: of one kind, or found by a search."""
    query = read_query(MenteesPage).model_copy(update={"limit": PAGE_SIZE})
    with transaction() as session:
        term, after_id = search_term(query.q), query.cursor
        mentees = list_mentees(
            session, kind=query.tipo, search=term, after_id=after_id, limit=query.limit
        )
    return render_template(
        "console_mentees.html",
        mentees=mentees,
        kinds=MenteeKind,
        kind=query.tipo,
        search_text=query.q or "",
        next_id=mentees[-1].id if len(mentees) == query.limit else None,
    )


@console_mentees.get(PROFILE_PATH)
@admin_required
def show(mentorado_id: int) -> ResponseReturnValue:
    """Show one profile with its dashboard, as its mentee sees it, and its history."""
    with_owner = select(Mentorado, User).outerjoin(User, User.id == Mentorado.user_id)
    with transaction() as session:
        row = session.execute(with_owner.where(Mentorado.id == mentorado_id)).one_or_none()
    if row is None:
        if url := successor_url(mentorado_id):
            return redirect(url)
        raise HttpError("not_found", f"there is no mentorado {mentorado_id}")
    profile, owner = row
    with transaction() as session:
        report = read_report(session, mentorado_id)
        history = audit.read_history(session, mentorado_id=mentorado_id, limit=PAGE_SIZE)
        names = audit.read_names(session, history)
        counts = count_references(session, mentorado_id)
    now = services().now()
    return render_template(
        "console_mentee.html",
        profile=profile,
        owner=owner,
        dangers=destructive_changes_of_profile(profile, owner, counts),
        report=report,
        view=view_month(report, None, now=now),
        this_month=current_period(now),
        chart=draw_chart(report.months, selected_measure()) if report.months else None,
        history=history,
        names=names,
    )


def get_profile(mentorado_id: int) -> Mentorado:
    """Return the profile with that id; raises HttpError `not_found`."""
    with transaction() as session:
        profile = session.get(Mentorado, mentorado_id)
    if profile is None:
        raise HttpError("not_found", f"there is no mentorado {mentorado_id}")
    return profile


console_deleted = Blueprint("console_deleted", __name__, url_prefix="/admin/mentorados/excluidos")

WITHOUT_OWNER = (
    "Perfil restaurado sem dono, porque a pessoa usa outro perfil ou excluiu a conta. Para juntar "
    "dois perfis, use «Unir a outro»."
)
WITHOUT_ADDRESS = "Perfil restaurado sem e-mail, porque outro perfil já tem o e-mail dele."


@console_deleted.get("")
@admin_required
def list_deleted() -> ResponseReturnValue:
    """List the profiles that were deleted in the last thirty days."""
    with transaction() as session:
        found = deleted_profiles.list_deleted(session, services().now())
    return render_template("console_deleted_profiles.html", deleted=found)


@console_deleted.get(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
def show_deleted(mentorado_id: int) -> ResponseReturnValue:
    """Show one deleted profile, with what comes back."""
    return render_template("console_deleted_profile.html", deleted=_get_deleted(mentorado_id))


@console_deleted.post(f"/<{ID_CONVERTER}:mentorado_id>")
@admin_required
def restore(mentorado_id: int) -> ResponseReturnValue:
    """Restore a deleted profile; a second click leads to it."""
    page = redirect(url_for("console_mentees.show", mentorado_id=mentorado_id), code=303)
    with transaction() as session:
        if session.get(Mentorado, mentorado_id) is not None:
            return page
    deleted = _get_deleted(mentorado_id)
    source, now = admin_source(typed_reason()), services().now()
    try:
        restored = run_admin_transaction(
            "restore", lambda s: deleted_profiles.restore(s, mentorado_id, source=source, now=now)
        )
    except ConflictError as err:
        error = CONFLICTS[err.kind]
        return render_template("console_deleted_profile.html", deleted=deleted, error=error), 409
    if restored.has_lost_owner:
        flash_user(WITHOUT_OWNER)
    elif restored.has_lost_address:
        flash_user(WITHOUT_ADDRESS)
    else:
        flash_user("Perfil restaurado, com tudo o que era dele.")
    return page


def successor_url(mentorado_id: int) -> str | None:
    """Return the page of a deleted profile, or of the one it was merged into; None for neither."""
    with transaction() as session:
        kept_id = deleted_profiles.find_merged_into(session, mentorado_id)
        is_deleted = deleted_profiles.list_deleted(
            session, services().now(), mentorado_id=mentorado_id
        )
    if is_deleted:
        return url_for("console_deleted.show_deleted", mentorado_id=mentorado_id)
    if kept_id is None:
        return None
    flash_user("Este perfil foi unido a outro: é este aqui.")
    return url_for("console_mentees.show", mentorado_id=kept_id)


def _get_deleted(mentorado_id: int) -> DeletedProfile:
    with transaction() as session:
        found = deleted_profiles.list_deleted(session, services().now(), mentorado_id=mentorado_id)
    if not found:
        raise HttpError("not_found", f"there is no deleted mentorado {mentorado_id}")
    return found[0]


console_imports = Blueprint("console_imports", __name__, url_prefix="/admin/mentorados/novos")

MAX_LIST_BYTES = 2 * 1024 * 1024  # of a file: twenty thousand lines of a hundred bytes
# A list up to this size is imported within the request; a longer one is a job with its own page.
MAX_INLINE_LINES = 500
MAX_INLINE_BYTES = MAX_FORM_BYTES - 8 * 1024  # its form fits into the limit of any form
FIELD_IDS = {"nome_completo": "nome", "email": "email"}  # of the form for one mentee
TEMPLATE_TITLES = ("Nome completo", "E-mail", *(FACTS[goal] for goal in csv_import.GOALS))
EMPTY = "Escolha um arquivo, ou escreva um nome."
OTHER_LIST = "Este formulário já foi enviado com outra lista. Confira e confirme de novo."


@console_imports.get("")
@admin_required
def show_form() -> ResponseReturnValue:
    """Show the form for one mentee or a file with many."""
    return _render_form([])


@console_imports.get("/modelo.csv")
@admin_required
def download_template() -> Response:
    """Return an empty list with all titles."""
    return csv_file("modelo-mentorados.csv", [TEMPLATE_TITLES])


@console_imports.post("")
@admin_required
def preview_or_import() -> ResponseReturnValue:
    """Show a preview line by line; after its confirmation, import the list."""
    try:
        content = _read_content()
        is_long = _is_long(content)
        reason = typed_reason()
    except InvalidInputError as err:
        return _render_form(err.errors)
    except UnreadableListError as err:
        return _render_form([{"field": "arquivo", "message": str(err)}])
    is_confirmed = jobs.CONFIRMED_FIELD in request.form
    if not is_long and not is_confirmed:
        return _render_preview(content)
    job_request = JobRequest(
        key=jobs.form_key() if is_confirmed else uuid.uuid4(),
        kind=JobKind.IMPORT,
        source=admin_source(reason),
        content=content,
        dry_run=not is_confirmed,
    )
    try:
        return jobs.start_job(job_request, is_short=not is_long)
    except KeyReusedError:
        if not is_long:
            return _render_preview(content, OTHER_LIST)
        return _render_form([{"field": "", "message": OTHER_LIST}])


@console_imports.post("/recusadas")
@admin_required
def download_rejected() -> ResponseReturnValue:
    """Return the lines of a previewed list that would not be registered, with the reasons."""
    # Long lists are jobs, whose pages have a download of their own.
    with suppress(InvalidInputError, UnreadableListError):
        content = _read_content()
        if not _is_long(content):
            columns, results = _results(content)
            rejected = [result.to_rejected() for result in results if not result.verdict.is_good]
            return jobs.rejected_csv("linhas-recusadas.csv", columns.titles, rejected)
    return _render_form([{"field": "", "message": OTHER_LIST}])


def _render_preview(content: str, note: str = "") -> ResponseReturnValue:
    """Render the preview of a short list, with a form that imports it once."""
    try:
        columns, results = _results(content)
    except UnreadableListError as err:
        return _render_form([{"field": "arquivo", "message": str(err)}])
    first = results[0]
    if "nome" in request.form and len(results) == 1 and first.verdict is Verdict.EXISTS:
        url = url_for("console_mentees.show", mentorado_id=first.mentorado_id)
        message = "Já existe um perfil com este e-mail."
        return _render_form([{"field": "email", "message": message}], url)
    stored = [result.to_stored(with_person=True) for result in results]
    with transaction() as session:
        reports = jobs.line_reports(session, stored, is_preview=True)
    page = render_template(
        "console_imports_report.html",
        good=sum(result.verdict.is_good for result in results),
        total=len(results),
        reports=reports,
        columns=columns,
        content=content,
        note=note,
        key=uuid.uuid4(),
    )
    return page, 409 if note else 200


def _is_long(content: str) -> bool:
    """Whether a list is read by a job; raises UnreadableListError for a text that is no list."""
    if csv_import.is_encoded_spreadsheet(content):
        return True
    if csv_import.count_lines(content) > MAX_INLINE_LINES:
        return True
    return len(content.encode()) > MAX_INLINE_BYTES


def _results(content: str) -> tuple[ListColumns, list[LineResult]]:
    mentees = csv_import.read_list(content)
    with transaction() as session:
        return mentees.columns, preview_list(session, mentees.lines)


def _read_content() -> str:
    """Return what was sent as a list; raises InvalidInputError and UnreadableListError."""
    # A form in another encoding costs ten times as much to decode as a file.
    is_multipart = request.mimetype == "multipart/form-data"
    limit = MAX_LIST_BYTES if is_multipart else MAX_FORM_BYTES
    request.max_content_length = request.max_form_memory_size = limit
    if file := request.files.get("arquivo"):
        content = csv_import.decode_file(file.read())
    elif "nome" in request.form:  # the form for one mentee
        return _list_of_one(request.form)
    else:
        content = request.form.get("lista", "")
    content = content.replace("\x00", "\x01")  # also invalid in a name, but PostgreSQL can store it
    if not content.strip():
        raise InvalidInputError([{"field": "arquivo", "message": EMPTY}])
    return content


def _list_of_one(form: Mapping[str, str]) -> str:
    """Return a list of one line; raises InvalidInputError with the ids of the wrong fields."""
    name, email = (form.get(field, "").strip() for field in FIELD_IDS.values())
    try:
        validate_model(csv_import.Row, {"nome_completo": name, "email": email}, FORM_INPUT)
    except InvalidInputError as err:
        raise InvalidInputError(
            [{"field": FIELD_IDS[e["field"]], "message": e["message"]} for e in err.errors]
        ) from err
    return csv_import.write_list([("nome", "e-mail"), (name, email)])


def _render_form(errors: FieldErrors, url: str = "") -> ResponseReturnValue:
    """Render the form with what was typed, the ids of wrong fields, and a page about the error."""
    page = render_template("console_imports.html", errors=errors, url=url)
    return page, 422 if errors else 200
