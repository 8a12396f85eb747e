"""The signed-in user's own data as a download."""

from flask import Blueprint, Response, jsonify

from web.access_policy import signed_in
from web.own_data import own_export

personal_data = Blueprint("personal_data", __name__, url_prefix="/perfil")


def json_download(document: object, file_name: str) -> Response:
    """Return a JSON document as a file that the browser saves."""
    response = jsonify(document)
    response.headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
    return response


@personal_data.get("/dados.json")
@signed_in
def download() -> Response:
    """Everything that is kept about the user, as one JSON file."""
    return json_download(own_export(), "meus-dados.json")
