"""What responses get: versions of static files, compression, and security headers."""

from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request
from flask_compress import Compress

from core.config import Config
from core.flask_app import LeanResponse

Headers = list[tuple[str, str]]

STATIC = "static"  # the endpoint of Flask's static folder
VERSION_PARAMETER = "v"
ONE_YEAR_SECONDS = 31_536_000
COMPRESSED_TYPES = ["text/html", "text/css", "text/javascript", "image/svg+xml"]

LOOPBACK = "http://127.0.0.1:* http://localhost:*"  # apps under development
FRAMED_ENDPOINT = "auth.renewed"  # the only page that this site frames
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # `no-referrer` would make browsers send «Origin: null» with forms.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class StaticFiles:
    """The static files of an app with versioned URLs, and the compression of its responses."""

    def __init__(self, app: Flask) -> None:
        app.config["COMPRESS_MIMETYPES"] = COMPRESSED_TYPES
        app.config["COMPRESS_REGISTER"] = False  # its hook would also run for API responses
        self.compress: Callable[[LeanResponse], Any] = Compress(app).after_request
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

    def prepare(self, response: Response) -> None:
        """Read a file at once, because compression would leave it open, and allow caching."""
        if response.status_code == 200:
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


def security_headers(config: Config, *, is_framed: bool = False) -> Headers:
    """Return the headers of every response; `is_framed` for the page that this site frames.

    Browsers also apply the policy to redirects of forms and frames, which lead to Clerk after a
    logout or a renewal of the session. Photos may come from any host.
    """
    urls = (urlsplit(url or "") for url in (config.sign_in_url, config.frontend_api_url))
    origins = " ".join(f"{url.scheme}://{url.netloc}" for url in urls if url.netloc)
    clerk = LOOPBACK if config.uses_development_provider else origins
    policy = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: http: https:",
        "connect-src 'self'",
        "manifest-src 'self'",
        f"form-action 'self' {clerk}".strip(),
        f"frame-src 'self' {clerk}".strip(),
        "base-uri 'none'",
        "frame-ancestors 'self'" if is_framed else "frame-ancestors 'none'",
    )
    headers = {
        **HEADERS,
        "Content-Security-Policy": "; ".join(policy),
        "X-Frame-Options": "SAMEORIGIN" if is_framed else "DENY",  # of older browsers
    }
    if config.is_production:
        headers["Strict-Transport-Security"] = f"max-age={ONE_YEAR_SECONDS}"
    return [*headers.items()]
