"""Where a request comes from: one of our own pages, or somebody else's."""

from flask import request


def is_from_our_pages() -> bool:
    """Whether the browser vouches that a page of ours has sent this (CONTRACT section 4.2)."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return origin == request.host_url.rstrip("/")
    return request.headers.get("Sec-Fetch-Site") == "same-origin"
