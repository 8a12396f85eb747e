"""Static files: versioned URLs, so that browsers can cache them for a year, and compression."""

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


class StaticFiles:
    """The static files of an app, with the version of each, and the compression of its pages."""

    def __init__(self, app: Flask) -> None:
        app.config["COMPRESS_MIMETYPES"] = COMPRESSED_TYPES
        app.config["COMPRESS_REGISTER"] = False  # its hook would also run for API responses
        self._compress = Compress(app)
        folder = Path(app.static_folder or "")
        # A short digest of each file, by its name within the folder.
        self._versions = {
            file.relative_to(folder).as_posix(): blake2b(
                file.read_bytes(), digest_size=6
            ).hexdigest()
            for file in folder.rglob("*")
            if file.is_file()
        }
        app.url_defaults(self._add_version)

    def prepare(self, response: Response) -> Response:
        """Return the response of a page or a static file, compressed where that is useful."""
        if request.endpoint == STATIC and response.status_code in FILE_STATUSES:
            self._prepare_file(response)
        if response.mimetype not in COMPRESSED_TYPES:
            return response
        compressed: Response = self._compress.after_request(response)
        return compressed

    def _prepare_file(self, response: Response) -> None:
        """Read the file at once, because compression would leave it open, and allow caching."""
        if response.status_code == FILE_STATUSES[0]:
            response.direct_passthrough = False
            response.make_sequence()
        # Only for the content of this version: during a deployment an old process also gets
        # requests for new files.
        version = request.args.get(VERSION_PARAMETER)
        if version and version == self._versions.get((request.view_args or {}).get("filename", "")):
            response.headers["Cache-Control"] = f"public, max-age={ONE_YEAR_SECONDS}, immutable"

    def _add_version(self, endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == STATIC and "filename" in values:
            values.setdefault(VERSION_PARAMETER, self._versions.get(values["filename"]))
