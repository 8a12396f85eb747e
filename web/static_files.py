"""Static files: an address changes with its content, so that browsers may keep what they have."""

from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, request
from flask_compress import Compress
from werkzeug.security import safe_join

VERSION = "v"
STATIC_FOLDERS = (200, 304)
ONE_YEAR_SECONDS = 31_536_000
COMPRESSED = ["text/html", "text/css", "text/javascript", "image/svg+xml"]  # what browsers read


def register_assets(app: Flask) -> None:
    """Compress pages and their parts; have static addresses carry their version."""
    app.config["COMPRESS_MIMETYPES"] = COMPRESSED
    app.config["COMPRESS_REGISTER"] = False  # answers of the API would pay for looking whether to
    compress = Compress(app)
    app.url_defaults(_add_version)
    app.after_request(partial(_send, compress))


def _send(compress: Compress, response: Response) -> Response:
    if response.mimetype == "application/json":
        return response
    _finish(response)
    if response.mimetype not in COMPRESSED:
        return response
    compressed: Response = compress.after_request(response)
    return compressed


def _add_version(endpoint: str, values: dict[str, Any]) -> None:
    if "filename" in values:
        values.setdefault(VERSION, _version_of(endpoint, values["filename"]))


def _finish(response: Response) -> None:
    """What comes from a folder is read at once, or the compression would leave the file open."""
    if response.status_code not in STATIC_FOLDERS or not _folder(request.endpoint or ""):
        return
    if response.status_code == STATIC_FOLDERS[0]:
        response.direct_passthrough = False
        response.make_sequence()
    # Only the content that this address stands for: during a deployment an old process is asked
    # for a new file as well.
    asked, name = request.args.get(VERSION), (request.view_args or {}).get("filename", "")
    if asked and asked == _version_of(request.endpoint or "", name):
        response.headers["Cache-Control"] = f"public, max-age={ONE_YEAR_SECONDS}, immutable"


def _version_of(endpoint: str, filename: str) -> str | None:
    folder = _folder(endpoint)
    return _version(safe_join(folder, filename)) if folder else None


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
