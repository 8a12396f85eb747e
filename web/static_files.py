"""Static files: versioned URLs, so that browsers can cache them for a year, and compression."""

from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from flask_compress import Compress

STATIC = "static"  # the endpoint of Flask's static folder
VERSION_PARAMETER = "v"
FILE_STATUSES = (200, 304)  # of a response from a static folder
ONE_YEAR_SECONDS = 31_536_000
COMPRESSED_TYPES = ["text/html", "text/css", "text/javascript", "image/svg+xml"]


def register_static_files(app: Flask) -> None:
    """Compress pages and static files, and add the version to static URLs."""
    app.config["COMPRESS_MIMETYPES"] = COMPRESSED_TYPES
    app.config["COMPRESS_REGISTER"] = False  # its hook would also run for API responses
    versions = _read_versions(Path(app.static_folder or ""))
    app.url_defaults(partial(_add_version, versions))
    app.after_request(partial(_prepare_response, versions, Compress(app)))


def _read_versions(folder: Path) -> dict[str, str]:
    """Return a short digest of each file, by its name within the folder."""
    return {
        file.relative_to(folder).as_posix(): blake2b(file.read_bytes(), digest_size=6).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def _add_version(versions: Mapping[str, str], endpoint: str, values: dict[str, Any]) -> None:
    if endpoint == STATIC and "filename" in values:
        values.setdefault(VERSION_PARAMETER, versions.get(values["filename"]))


def _prepare_response(
    versions: Mapping[str, str], compress: Compress, response: Response
) -> Response:
    if response.mimetype == "application/json":
        return response
    if request.endpoint == STATIC and response.status_code in FILE_STATUSES:
        _prepare_file_response(versions, response)
    if response.mimetype not in COMPRESSED_TYPES:
        return response
    compressed: Response = compress.after_request(response)
    return compressed


def _prepare_file_response(versions: Mapping[str, str], response: Response) -> None:
    """Read the file at once, because compression would leave it open, and allow caching."""
    if response.status_code == FILE_STATUSES[0]:
        response.direct_passthrough = False
        response.make_sequence()
    # Only for the content of this version: during a deployment an old process also gets requests
    # for new files.
    version = request.args.get(VERSION_PARAMETER)
    if version and version == versions.get((request.view_args or {}).get("filename", "")):
        response.headers["Cache-Control"] = f"public, max-age={ONE_YEAR_SECONDS}, immutable"
