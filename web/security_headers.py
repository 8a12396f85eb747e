"""Security headers of every response: content security policy, framing, sniffing, referrer."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from core.config import Config

Headers = list[tuple[str, str]]

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


@dataclass(frozen=True, slots=True)
class SecurityHeaders:
    """The headers of every response, as names and values; `framed` of the page that is framed."""

    default: Headers
    framed: Headers


def security_headers(config: Config) -> SecurityHeaders:
    """Return the headers for this configuration; they are added to every response."""
    common = HEADERS | (HTTPS_HEADERS if config.is_production else {})
    policy = _content_security_policy(config)
    default = common | _frame_headers(policy, "'none'", "DENY")
    framed = common | _frame_headers(policy, "'self'", "SAMEORIGIN")
    return SecurityHeaders([*default.items()], [*framed.items()])


def _frame_headers(policy: str, ancestors: str, option: str) -> dict[str, str]:
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
