"""Addresses that came with a request: taken apart only where they can be."""

from urllib.parse import SplitResult, urlsplit

NOWHERE = urlsplit("")


def taken_apart(address: str) -> SplitResult:
    """Its parts; all of them empty for what is no address, such as «//[», or has no such port."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises ValueError as well, and whoever redirects there would meet it
    except ValueError:
        return NOWHERE
    return parts
