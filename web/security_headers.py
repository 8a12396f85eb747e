"""What every answer tells browsers to refuse: foreign code, foreign frames, guessing, leaking."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask

from core.config import Config

Headers = dict[str, str]

LOOPBACK = "http://127.0.0.1:* http://localhost:*"  # where apps under development live
FRAMED_BY_US = "auth.renewed"  # the only page that we frame ourselves
ONE_YEAR_SECONDS = 31_536_000
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # The Origin of a form must stay: `no-referrer` would make browsers send «null».
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HTTPS = {"Strict-Transport-Security": f"max-age={ONE_YEAR_SECONDS}"}


def register_headers(app: Flask, config: Config) -> None:
    """Have every answer carry the headers."""
    everywhere = HEADERS | (HTTPS if config.is_production else {})
    policy = _policy(config)
    usual = everywhere | _frames(policy, "'none'", "DENY")
    framed = everywhere | _frames(policy, "'self'", "SAMEORIGIN")
    ours = {rule.rule for rule in app.url_map.iter_rules() if rule.endpoint == FRAMED_BY_US}
    protected: Any = _protected(app.wsgi_app, ours, usual, framed)
    app.wsgi_app = protected  # type: ignore[method-assign] # as Flask documents


def _protected(
    wsgi: WSGIApplication, ours: set[str], usual: Headers, framed: Headers
) -> WSGIApplication:
    """Around the app: what is the same for every answer is no matter of any single one."""
    added, framing = list(usual.items()), list(framed.items())

    def protected(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        more = framing if environ["PATH_INFO"] in ours else added

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + more, *error)

        return wsgi(environ, start)

    return protected


def _frames(policy: str, ancestors: str, option: str) -> Headers:
    """Who may frame the page, for browsers of today and for older ones."""
    return {
        "Content-Security-Policy": f"{policy}; frame-ancestors {ancestors}",
        "X-Frame-Options": option,
    }


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
