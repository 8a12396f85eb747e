"""The admin console's pre-registration, of one mentee or of a list, with a preview."""

import uuid
from collections.abc import Mapping
from contextlib import suppress

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from blueprints.admin import jobs
from core.database import transaction
from models.admin_job import JobKind
from provisioning.imports import (
    LineResult,
    LineVerdict,
    ListColumns,
    UnreadableListError,
    preview_list,
)
from provisioning.jobs import JobRequest, KeyReusedError
from web import csv_import
from web.access_policy import admin_required
from web.admin_change import admin_source, typed_reason
from web.admin_labels import FACTS
from web.csv_export import csv_file
from web.errors import FieldErrors, InvalidInputError
from web.month_input import FORM_INPUT
from web.problem_responses import MAX_FORM_BYTES
from web.validation import validate_model

console_imports = Blueprint("console_imports", __name__, url_prefix="/admin/mentorados/novos")

MAX_LIST_BYTES = 2 * 1024 * 1024  # of a file: twenty thousand lines of a hundred bytes
# A list up to this size is imported within the request; a longer one is a job with its own page.
MAX_INLINE_LINES = 500
MAX_INLINE_BYTES = MAX_FORM_BYTES - 8 * 1024  # its form fits into the limit of any form
FIELD_IDS = {"nome_completo": "nome", "email": "email"}  # of the form for one mentee
TEMPLATE_TITLES = ("Nome completo", "E-mail", *(FACTS[goal] for goal in csv_import.GOALS))
EMPTY = "Escolha um arquivo, ou escreva um nome."
EXISTS = "Já existe um perfil com este e-mail."
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
    if _is_form_for_one() and len(results) == 1 and first.verdict is LineVerdict.EXISTS:
        url = url_for("console_mentees.show", mentorado_id=first.mentorado_id)
        return _render_form([{"field": "email", "message": EXISTS}], url)
    stored = [result.to_stored(with_person=True) for result in results]
    with transaction() as session:
        reports = jobs.line_reports(session, stored, is_preview=True)
    page = render_template(
        "console_imports_report.html",
        good=sum(result.verdict.is_good for result in results),
        total=len(results),
        reports=reports,
        columns=columns.to_stored(),
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


def _is_form_for_one() -> bool:
    return "nome" in request.form


def _read_content() -> str:
    """Return the file, the previewed list, or a list of the form's name and address.

    Raises InvalidInputError and UnreadableListError.
    """
    # A form in another encoding costs ten times as much to decode as a file.
    is_multipart = request.mimetype == "multipart/form-data"
    limit = MAX_LIST_BYTES if is_multipart else MAX_FORM_BYTES
    request.max_content_length = request.max_form_memory_size = limit
    if file := request.files.get("arquivo"):
        content = csv_import.decode_file(file.read())
    elif _is_form_for_one():
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
    page = render_template(
        "console_imports.html",
        errors=errors,
        url=url,
        error_of={error["field"]: error for error in errors},
        typed={field: request.form.get(field, "") for field in FIELD_IDS.values()},
    )
    return page, 422 if errors else 200
