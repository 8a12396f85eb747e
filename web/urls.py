"""Addresses that came with a request: taken apart only where they can be."""

from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from flask import request

NAMES = 64  # of our server: it has few, and whoever makes some up pays for it
NOWHERE = urlsplit("")


def safe_urlsplit(address: str) -> SplitResult:
    """Its parts; all of them empty for what is no address, such as «//[», or has no such port."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises ValueError as well, and whoever redirects there would meet it
    except ValueError:
        return NOWHERE
    return parts


def has_valid_host() -> bool:
    """Whether the request says by a usable name which server it means (RFC 9112, section 3.2)."""
    return _is_usable(request.host)


@lru_cache(NAMES)
def _is_usable(host: str) -> bool:
    return bool(safe_urlsplit(f"http://{host}/").hostname) and _is_encodable(host)


def _is_encodable(host: str) -> bool:
    """Whether the router could take the name for one: it encodes it as a domain."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def is_from_our_pages() -> bool:
    """Whether the browser vouches that a page of ours has sent this (CONTRACT section 4.2)."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin == request.host_url.rstrip("/")
    return request.headers.get("Sec-Fetch-Site") == "same-origin"
