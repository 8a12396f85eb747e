"""The admin console's pre-registration, of one mentee or of a list, with a preview."""

import uuid

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from blueprints.admin.jobs import KEY_FIELD, form_key, preview_reports, start_job
from core.database import transaction
from models.admin_job import JobKind
from provisioning.imports import UnreadableListError, preview_list
from provisioning.jobs import JobRequest, KeyReusedError
from web.access_policy import admin_required
from web.admin_change import admin_source
from web.csv_import import count_lines, decode_file, read_list, write_list
from web.errors import FieldErrors, InvalidInputError
from web.problem_responses import MAX_FORM_BYTES
from web.validation import WithReason, validate_model

console_imports = Blueprint("console_imports", __name__, url_prefix="/admin/mentorados/novos")

MAX_LIST_BYTES = 2 * 1024 * 1024  # of a file: twenty thousand lines of a hundred bytes
# A list up to this size is imported within the request; a longer one is a job with its own page.
MAX_INLINE_LINES = 500
MAX_INLINE_CHARACTERS = 128 * 1024
CONFIRMED_FIELD = "confirmado"
EMPTY = "Escolha um arquivo, ou escreva um nome."
OTHER_LIST = "Este formulário já foi enviado com outra lista. Confira e confirme de novo."


@console_imports.get("")
@admin_required
def ask() -> ResponseReturnValue:
    """Show the form for one mentee or a file with many."""
    return render_template("console_imports.html", errors=())


@console_imports.post("")
@admin_required
def act() -> ResponseReturnValue:
    """Show a preview line by line; after its confirmation, import the list."""
    # A form in another encoding costs ten times as much to decode as a file.
    is_file = request.mimetype == "multipart/form-data"
    limit = MAX_LIST_BYTES if is_file else MAX_FORM_BYTES
    request.max_content_length = request.max_form_memory_size = limit
    try:
        content = _read_content()
        lines = count_lines(content)
        reason = validate_model(WithReason, {"reason": request.form.get("reason", "")}).reason
    except InvalidInputError as err:
        return _render_form_again(err.errors)
    except UnreadableListError as err:
        return _render_form_again([{"field": "arquivo", "message": str(err)}])
    is_short = lines <= MAX_INLINE_LINES and len(content) <= MAX_INLINE_CHARACTERS
    is_confirmed = CONFIRMED_FIELD in request.form
    if is_short and not is_confirmed:
        return _preview(content)
    job_request = JobRequest(
        key=form_key() if is_confirmed else uuid.uuid4(),
        kind=JobKind.IMPORT,
        source=admin_source(reason),
        content=content,
        dry_run=not is_confirmed,
    )
    try:
        return start_job(job_request, is_short=is_short)
    except KeyReusedError:
        if is_short:
            return _preview(content, OTHER_LIST)
        return _render_form_again([{"field": "", "message": OTHER_LIST}])


def _preview(content: str, note: str = "") -> ResponseReturnValue:
    """Render the preview of a short list, with a form that imports it once."""
    try:
        lines = read_list(content)
    except UnreadableListError as err:
        return _render_form_again([{"field": "arquivo", "message": str(err)}])
    with transaction() as session:
        results = preview_list(session, lines)
    page = render_template(
        "console_imports_report.html",
        good=sum(result.verdict.is_good for result in results),
        total=len(results),
        reports=preview_reports(result.to_stored(with_person=True) for result in results),
        content=content,
        note=note,
        key_field=KEY_FIELD,
        key=uuid.uuid4(),
    )
    return page, 409 if note else 200


def _read_content() -> str:
    """Return the file, the previewed list, or a list of the form's name and address."""
    file = request.files.get("arquivo")
    content = decode_file(file.read()) if file else request.form.get("lista", "")
    content = content.replace("\x00", "\x01")  # also invalid in a name, but PostgreSQL can store it
    name, email = (request.form.get(field, "").strip() for field in ("nome", "email"))
    if not content.strip() and name:
        return write_list([("nome", "e-mail"), (name, email)])
    if not content.strip():
        raise InvalidInputError([{"field": "nome", "message": EMPTY}])
    return content


def _render_form_again(errors: FieldErrors) -> ResponseReturnValue:
    return render_template("console_imports.html", errors=errors), 422
