"""Static files: an address changes with its content, so that browsers may keep what they have."""

from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, request
from flask_compress import Compress
from werkzeug.security import safe_join

VERSION = "v"
ONE_YEAR_SECONDS = 31_536_000
COMPRESSED = ["text/html", "text/css", "text/javascript", "image/svg+xml"]  # what browsers read


def register_assets(app: Flask) -> None:
    """Compress pages and their parts; have static addresses carry their version."""
    app.config["COMPRESS_MIMETYPES"] = COMPRESSED
    Compress(app)
    app.url_defaults(_add_version)
    app.after_request(_finish)  # registered last, so that it comes before the compression


def _add_version(endpoint: str, values: dict[str, Any]) -> None:
    folder = _folder(endpoint)
    if folder and "filename" in values:
        values.setdefault(VERSION, _version(safe_join(folder, values["filename"])))


def _finish(response: Response) -> Response:
    """What comes from a folder is read at once, or the compression would leave the file open."""
    if response.status_code == 200 and _folder(request.endpoint or ""):
        response.direct_passthrough = False
        response.make_sequence()
        if VERSION in request.args:
            response.headers["Cache-Control"] = f"public, max-age={ONE_YEAR_SECONDS}, immutable"
    return response


def _folder(endpoint: str) -> str | None:
    if endpoint == "static":
        return current_app.static_folder
    name, _, view = endpoint.rpartition(".")
    return current_app.blueprints[name].static_folder if view == "static" else None


@cache
def _version(path: str | None) -> str | None:
    """A short digest of the file; read once in the life of a process."""
    file = Path(path or "")
    return blake2b(file.read_bytes(), digest_size=6).hexdigest() if file.is_file() else None
