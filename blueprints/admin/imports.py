"""The admin console's pre-registration, of one mentee or of a list, with a preview."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from blueprints.admin.jobs import (
    CONFIRMED_FIELD,
    KEY_FIELD,
    form_key,
    line_reports,
    rejected_csv,
    start_job,
)
from core.database import transaction
from models.background import JobKind
from provisioning.imports import (
    LineResult,
    MenteeList,
    UnreadableListError,
    preview_list,
)
from provisioning.jobs import JobRequest, KeyReusedError
from provisioning.preregistration import Verdict
from web.access_policy import admin_required
from web.admin_change import admin_source, typed_reason
from web.admin_labels import FACTS
from web.csv_export import csv_file
from web.csv_import import (
    GOALS,
    Row,
    count_lines,
    decode_file,
    is_encoded_spreadsheet,
    read_list,
    write_list,
)
from web.errors import InvalidInputError
from web.month_input import FORM_INPUT
from web.problem_responses import MAX_FORM_BYTES
from web.validation import validate_model

console_imports = Blueprint("console_imports", __name__, url_prefix="/admin/mentorados/novos")

MAX_LIST_BYTES = 2 * 1024 * 1024  # of a file: twenty thousand lines of a hundred bytes
# A list up to this size is imported within the request; a longer one is a job with its own page.
MAX_INLINE_LINES = 500
MAX_INLINE_BYTES = MAX_FORM_BYTES - 8 * 1024  # its form fits into the limit of any form
FIELD_IDS = {"nome_completo": "nome", "email": "email"}  # of the form for one mentee
TEMPLATE_TITLES = ("Nome completo", "E-mail", *(FACTS[goal] for goal in GOALS))
TEMPLATE_FILE, REJECTED_FILE = "modelo-mentorados.csv", "linhas-recusadas.csv"
EMPTY = "Escolha um arquivo, ou escreva um nome."
EXISTS = "Já existe um perfil com este e-mail."
OTHER_LIST = "Este formulário já foi enviado com outra lista. Confira e confirme de novo."


@dataclass(frozen=True, slots=True)
class FormError:
    """A message of the page; `field` is the id of the wrong field, `url` a page about it."""

    message: str
    field: str = ""
    url: str = ""


@console_imports.get("")
@admin_required
def show_form() -> ResponseReturnValue:
    """Show the form for one mentee or a file with many."""
    return _render_form()


@console_imports.get("/modelo.csv")
@admin_required
def download_template() -> Response:
    """Return an empty list with all titles."""
    return csv_file(TEMPLATE_FILE, [TEMPLATE_TITLES])


@console_imports.post("")
@admin_required
def preview_or_import() -> ResponseReturnValue:
    """Show a preview line by line; after its confirmation, import the list."""
    try:
        content = _read_content()
        is_long = _is_long(content)
        reason = typed_reason()
    except InvalidInputError as err:
        return _render_form([FormError(e["message"], e["field"]) for e in err.errors])
    except UnreadableListError as err:
        return _render_form([FormError(str(err), "arquivo")])
    is_confirmed = CONFIRMED_FIELD in request.form
    if not is_long and not is_confirmed:
        return _render_preview(content)
    job_request = JobRequest(
        key=form_key() if is_confirmed else uuid.uuid4(),
        kind=JobKind.IMPORT,
        source=admin_source(reason),
        content=content,
        dry_run=not is_confirmed,
    )
    try:
        return start_job(job_request, is_short=not is_long)
    except KeyReusedError:
        if not is_long:
            return _render_preview(content, OTHER_LIST)
        return _render_form([FormError(OTHER_LIST)])


@console_imports.post("/recusadas")
@admin_required
def download_rejected() -> ResponseReturnValue:
    """Return the lines of a previewed list that would not be registered, with the reasons."""
    # Long lists are jobs, whose pages have a download of their own.
    try:
        content = _read_content()
        found = None if _is_long(content) else _results(content)
    except (InvalidInputError, UnreadableListError):
        found = None
    if found is None:
        return _render_form([FormError(OTHER_LIST)])
    mentees, results = found
    return rejected_csv(
        REJECTED_FILE,
        mentees.columns.titles,
        [result.to_rejected() for result in results if not result.verdict.is_good],
    )


def _render_preview(content: str, note: str = "") -> ResponseReturnValue:
    """Render the preview of a short list, with a form that imports it once."""
    try:
        mentees, results = _results(content)
    except UnreadableListError as err:
        return _render_form([FormError(str(err), "arquivo")])
    if errors := _errors_of_one(results):
        return _render_form(errors)
    good = sum(result.verdict.is_good for result in results)
    with transaction() as session:
        reports = line_reports(
            session, [result.to_stored(with_person=True) for result in results], is_preview=True
        )
    page = render_template(
        "console_imports_report.html",
        good=good,
        total=len(results),
        reports=reports,
        columns=mentees.columns,
        content=content,
        note=note,
        key_field=KEY_FIELD,
        key=uuid.uuid4(),
    )
    return page, 409 if note else 200


def _is_long(content: str) -> bool:
    """Whether a list is read by a job; raises UnreadableListError for a text that is no list."""
    if is_encoded_spreadsheet(content):
        return True
    if count_lines(content) > MAX_INLINE_LINES or len(content) > MAX_INLINE_BYTES:
        return True
    return len(content.encode()) > MAX_INLINE_BYTES


def _results(content: str) -> tuple[MenteeList, list[LineResult]]:
    mentees = read_list(content)
    with transaction() as session:
        return mentees, preview_list(session, mentees.lines)


def _errors_of_one(results: Sequence[LineResult]) -> list[FormError]:
    """Return the error of the form for one mentee, if another profile has the address."""
    [result, *others] = results
    if not _is_form_for_one() or others or result.verdict is not Verdict.EXISTS:
        return []
    url = url_for("console_mentees.show", mentorado_id=result.mentorado_id)
    return [FormError(EXISTS, "email", url)]


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
    file = request.files.get("arquivo")
    if file:
        content = decode_file(file.read())
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
        validate_model(Row, {"nome_completo": name, "email": email}, FORM_INPUT)
    except InvalidInputError as err:
        raise InvalidInputError(
            [{"field": FIELD_IDS[e["field"]], "message": e["message"]} for e in err.errors]
        ) from err
    return write_list([("nome", "e-mail"), (name, email)])


def _render_form(errors: Sequence[FormError] = ()) -> ResponseReturnValue:
    """Render the form with what was typed."""
    page = render_template(
        "console_imports.html",
        errors=errors,
        error_of={error.field: error for error in errors},
        typed={field: request.form.get(field, "") for field in FIELD_IDS.values()},
    )
    return page, 422 if errors else 200
