"""URLs of a request: split safely, host validation, same-origin check."""

from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from flask import request

MAX_CACHED_HOSTS = 64  # a server has few valid names; forged ones only evict each other
EMPTY_URL = urlsplit("")


def safe_urlsplit(url: str) -> SplitResult:
    """Return the parts of a URL; all empty for an invalid one, such as «//[» or a bad port."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError here instead of in a redirect
    except ValueError:
        return EMPTY_URL
    return parts


@lru_cache(MAX_CACHED_HOSTS)
def is_valid_host(host: str) -> bool:
    """Whether a Host header has a valid name, which the router can encode (RFC 9112, 3.2)."""
    if not safe_urlsplit(f"http://{host}/").hostname:
        return False
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def is_same_origin() -> bool:
    """Whether the browser states that a page of this site has sent the request."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin == request.host_url.rstrip("/")
    return request.headers.get("Sec-Fetch-Site") == "same-origin"
