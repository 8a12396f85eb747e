"""«Meu perfil»: the own profile and account, and the own data as a download."""

from flask import Blueprint, Response, g, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from blueprints.api.mentorados import OwnProfileEdit, rename_own_profile
from web.access_policy import mentorado_required, signed_in
from web.errors import FieldErrors, InvalidInputError
from web.mentee_texts import address_advice
from web.own_data import own_export, own_report
from web.problem_responses import MAX_FORM_BYTES
from web.request_context import flash_user
from web.validation import validate_model

profile = Blueprint("profile", __name__)
personal_data = Blueprint("personal_data", __name__, url_prefix="/perfil")


@profile.get("/perfil")
@mentorado_required
def show() -> ResponseReturnValue:
    """Show the own profile, with advice about the e-mail address."""
    return _render(g.context.mentorado["nome_completo"])


@profile.post("/perfil")
@mentorado_required
def save() -> ResponseReturnValue:
    """Save the own name."""
    request.max_content_length = MAX_FORM_BYTES
    typed = request.form.get("nome_completo", "")
    try:
        name = validate_model(OwnProfileEdit, {"nome_completo": typed}).nome_completo
    except InvalidInputError as err:
        return _render(typed, err.errors), 422
    is_changed = name != g.context.mentorado["nome_completo"]
    rename_own_profile(name, "page")
    flash_user(f"Pronto: seu nome agora é {name}." if is_changed else "Nada mudou no seu nome.")
    return redirect(url_for("profile.show"), code=303)


@personal_data.get("/dados.json")
@signed_in
def download() -> Response:
    """Everything that is kept about the user, as one JSON file."""
    return json_download(own_export(), "meus-dados.json")


def json_download(document: object, file_name: str) -> Response:
    """Return a JSON document as a file that the browser saves."""
    response = jsonify(document)
    response.headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
    return response


def _render(typed_name: str, errors: FieldErrors = ()) -> str:
    report = own_report().report
    return render_template(
        "profile.html",
        mentorado=g.context.mentorado,
        user=g.context.user,
        address=report.address,
        advice=address_advice(report.address),
        typed_name=typed_name,
        errors=errors,
        labels={"nome_completo": "Nome completo"},
    )
