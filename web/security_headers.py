"""Security headers of every response: content security policy, framing, sniffing, referrer."""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask

from core.config import Config

Headers = dict[str, str]

LOOPBACK = "http://127.0.0.1:* http://localhost:*"  # apps under development
FRAMED_ENDPOINT = "auth.renewed"  # the only page that this site frames
ONE_YEAR_SECONDS = 31_536_000
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # `no-referrer` would make browsers send «Origin: null» with forms.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}
HTTPS_HEADERS = {"Strict-Transport-Security": f"max-age={ONE_YEAR_SECONDS}"}


def register_security_headers(app: Flask, config: Config) -> None:
    """Wrap the WSGI app so that every response carries the security headers."""
    common = HEADERS | (HTTPS_HEADERS if config.is_production else {})
    policy = _content_security_policy(config)
    default = common | _frame_headers(policy, "'none'", "DENY")
    framed = common | _frame_headers(policy, "'self'", "SAMEORIGIN")
    framed_paths = {r.rule for r in app.url_map.iter_rules() if r.endpoint == FRAMED_ENDPOINT}
    wrapped: Any = _add_headers(app.wsgi_app, framed_paths, default, framed)
    app.wsgi_app = wrapped  # type: ignore[method-assign] # as Flask documents


def _add_headers(
    wsgi: WSGIApplication, framed_paths: set[str], default: Headers, framed: Headers
) -> WSGIApplication:
    """Return a WSGI app that adds the headers, which are prepared once and not for each request."""
    default_items, framed_items = list(default.items()), list(framed.items())

    def app_with_headers(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        added = framed_items if environ["PATH_INFO"] in framed_paths else default_items

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            return start_response(status, headers + added, *error)

        return wsgi(environ, start)

    return app_with_headers


def _frame_headers(policy: str, ancestors: str, option: str) -> Headers:
    """Return the headers that limit who may frame the page, for current and older browsers."""
    return {
        "Content-Security-Policy": f"{policy}; frame-ancestors {ancestors}",
        "X-Frame-Options": option,
    }


def _content_security_policy(config: Config) -> str:
    """Return the content security policy without `frame-ancestors`.

    Browsers also apply it to redirects of forms and frames, which lead to Clerk after a logout or a
    renewal of the session. Photos may come from any host.
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
            "manifest-src 'self'",
            f"form-action 'self' {clerk}".strip(),
            f"frame-src 'self' {clerk}".strip(),
            "base-uri 'none'",
        )
    )


def _origin(url: str | None) -> str | None:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None
