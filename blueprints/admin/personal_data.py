"""Personal data of one user in the admin console: export, and erasure with its preview."""

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from blueprints.api.admin_users import erase_user, export_user
from blueprints.pages.personal_data import json_download
from core.database import transaction
from models import User
from provisioning.admin_actions import ConflictError
from web.access_policy import admin_required
from web.admin_change import typed_reason
from web.admin_labels import CONFLICTS
from web.errors import HttpError, InvalidInputError
from web.request_context import flash_user
from web.validation import ID_CONVERTER

console_personal_data = Blueprint(
    "console_personal_data", __name__, url_prefix=f"/admin/pessoas/<{ID_CONVERTER}:user_id>"
)

CONFIRMATION = "apagar"  # the word that the admin types


@console_personal_data.get("/dados.json")
@admin_required
def export(user_id: int) -> Response:
    """Download everything that is kept about a user."""
    return json_download(export_user(user_id), f"dados-pessoa-{user_id}.json")


@console_personal_data.get("/apagar-dados")
@admin_required
def preview(user_id: int) -> ResponseReturnValue:
    """Show what an erasure would delete, and ask for a reason and a typed word."""
    return _render(user_id)


@console_personal_data.post("/apagar-dados")
@admin_required
def erase(user_id: int) -> ResponseReturnValue:
    """Erase the user, if the word was typed and a reason is given."""
    if request.form.get("confirmacao", "").strip().lower() != CONFIRMATION:
        return _render(user_id, f"Digite «{CONFIRMATION}» para confirmar."), 422
    try:
        reason = typed_reason()
        erase_user(user_id, reason, dry_run=False)
    except InvalidInputError:
        return _render(user_id, "Informe o motivo."), 422
    except ConflictError as err:
        return _render(user_id, CONFLICTS[err.kind]), 409
    flash_user("Dados pessoais apagados.")
    return redirect(url_for("console_users.index"), code=303)


def _render(user_id: int, fault: str = "") -> str:
    with transaction() as session:
        user = session.get(User, user_id)
    if user is None:
        raise HttpError("not_found", f"there is no user {user_id}")
    counts: dict[str, int] = {}
    try:
        counts = erase_user(user_id, None, dry_run=True)
    except ConflictError as err:
        fault = fault or CONFLICTS[err.kind]
    return render_template(
        "console_erase_person.html",
        user=user,
        counts=counts,
        fault=fault,
        word=CONFIRMATION,
        reason=request.form.get("reason", ""),
    )
