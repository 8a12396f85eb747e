"""What every answer tells browsers to refuse: foreign code, foreign frames, guessing, leaking."""

from functools import partial
from urllib.parse import urlsplit

from flask import Flask, Response, request

from config import Config

LOOPBACK = "http://127.0.0.1:* http://localhost:*"  # where apps under development live
FRAMED_BY_US = "auth.renewed"  # the only page that we frame ourselves
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # The Origin of a form must stay: `no-referrer` would make browsers send «null».
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
ONE_YEAR_SECONDS = 31_536_000


def register_headers(app: Flask, config: Config) -> None:
    """Have every answer carry the headers."""
    app.after_request(partial(_protect, _policy(config), config.is_production))


def _protect(policy: str, is_production: bool, response: Response) -> Response:  # noqa: FBT001 - bound by partial
    is_framed = request.endpoint == FRAMED_BY_US
    ancestors = "'self'" if is_framed else "'none'"
    response.headers.update(HEADERS)
    response.headers["Content-Security-Policy"] = f"{policy}; frame-ancestors {ancestors}"
    response.headers["X-Frame-Options"] = "SAMEORIGIN" if is_framed else "DENY"
    if is_production:
        response.headers["Strict-Transport-Security"] = f"max-age={ONE_YEAR_SECONDS}"
    return response


def _policy(config: Config) -> str:
    """The content security policy, but for who may frame the page.

    Browsers hold redirections of forms and frames to it as well, and after signing out or renewing
    a session those lead to Clerk. Photos may come from anywhere.
    """
    hosts = [_origin(config.sign_in_url), _origin(config.frontend_api_url)]
    clerk = LOOPBACK if config.uses_local_identity else " ".join(filter(None, hosts))
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: http: https:",
            "connect-src 'self'",
            f"form-action 'self' {clerk}".strip(),
            f"frame-src 'self' {clerk}".strip(),
            "base-uri 'none'",
        )
    )


def _origin(url: str | None) -> str | None:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
