"""Static files: versioned URLs, so that browsers can cache them for a year, and compression."""

from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import Flask, Response, current_app, request
from flask_compress import Compress
from werkzeug.security import safe_join

VERSION_PARAMETER = "v"
FILE_STATUSES = (200, 304)  # of a response from a static folder
ONE_YEAR_SECONDS = 31_536_000
COMPRESSED_TYPES = ["text/html", "text/css", "text/javascript", "image/svg+xml"]


def register_static_files(app: Flask) -> None:
    """Compress pages and static files, and add the version to static URLs."""
    app.config["COMPRESS_MIMETYPES"] = COMPRESSED_TYPES
    app.config["COMPRESS_REGISTER"] = False  # its hook would also run for API responses
    compress = Compress(app)
    app.url_defaults(_add_version)
    app.after_request(partial(_prepare_response, compress))


def _prepare_response(compress: Compress, response: Response) -> Response:
    if response.mimetype == "application/json":
        return response
    _prepare_file_response(response)
    if response.mimetype not in COMPRESSED_TYPES:
        return response
    compressed: Response = compress.after_request(response)
    return compressed


def _add_version(endpoint: str, values: dict[str, Any]) -> None:
    if "filename" in values:
        values.setdefault(VERSION_PARAMETER, _file_version(endpoint, values["filename"]))


def _prepare_file_response(response: Response) -> None:
    """Read the file at once, because compression would leave it open, and allow caching."""
    if response.status_code not in FILE_STATUSES or not _static_folder(request.endpoint or ""):
        return
    if response.status_code == FILE_STATUSES[0]:
        response.direct_passthrough = False
        response.make_sequence()
    # Only for the content of this version: during a deployment an old process also gets requests
    # for new files.
    version = request.args.get(VERSION_PARAMETER)
    name = (request.view_args or {}).get("filename", "")
    if version and version == _file_version(request.endpoint or "", name):
        response.headers["Cache-Control"] = f"public, max-age={ONE_YEAR_SECONDS}, immutable"


def _file_version(endpoint: str, filename: str) -> str | None:
    folder = _static_folder(endpoint)
    return _content_digest(safe_join(folder, filename)) if folder else None


def _static_folder(endpoint: str) -> str | None:
    return current_app.static_folder if endpoint == "static" else None


@cache
def _content_digest(path: str | None) -> str | None:
    """Return a short digest of the file, which each process reads once."""
    file = Path(path or "")
    return blake2b(file.read_bytes(), digest_size=6).hexdigest() if file.is_file() else None
