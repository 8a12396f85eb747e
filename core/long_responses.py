"""Responses that are sent in parts: the server gives the client time for each part."""

from collections.abc import Callable
from contextvars import ContextVar

# Of this thread; without a server that limits the time, nothing has to be renewed.
_renew: ContextVar[Callable[[], None]] = ContextVar("renew_response", default=lambda: None)


def set_renewal(renew: Callable[[], None]) -> None:
    """Set what `renew_response` calls in this thread."""
    _renew.set(renew)


def renew_response() -> None:
    """Give the client of this thread's response time to receive its next part."""
    _renew.get()()
