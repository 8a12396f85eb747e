"""How long the database may be waited for: until the unit of work has to end, however it hangs.

PostgreSQL's own timeouts end a statement that takes too long, but only a server that still runs can
keep them. psycopg2's wait callback lets us keep the time on our side as well.
"""

import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from psycopg2 import OperationalError, extensions

POLLED = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


class DeadlineError(OperationalError):
    """The server said nothing until the work had to end; its connection is closed."""


def watch() -> None:
    """Let every connection of this process keep the deadline of whoever uses it."""
    extensions.set_wait_callback(_wait)


def begin(seconds: float) -> None:
    """Start the time of a request: what its thread asks the database ends within it."""
    _deadline.set(time.monotonic() + seconds)


def end() -> None:
    """The request is over; the thread's next one has a time of its own."""
    _deadline.set(None)


def seconds_left() -> float | None:
    """How long the database may still be waited for, 0 or less when the time is up; None where
    nobody has set an end.
    """
    moment = _deadline.get()
    return None if moment is None else moment - time.monotonic()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Bound what is asked inside, by these seconds and by the time the request has left."""
    own, outer = time.monotonic() + seconds, _deadline.get()
    with _until(own if outer is None else min(own, outer)):
        yield


@contextmanager
def beyond(seconds: float) -> Iterator[None]:
    """Bound what is asked inside by these seconds alone, also beyond the request's time."""
    with _until(time.monotonic() + seconds):
        yield


@contextmanager
def _until(moment: float) -> Iterator[None]:
    token = _deadline.set(moment)
    try:
        yield
    finally:
        _deadline.reset(token)


def _wait(connection: extensions.connection) -> None:
    """Wait for the server's word; psycopg2 closes the connection when this raises."""
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        poll.register(connection.fileno(), POLLED[state])
        left = seconds_left()
        if not poll.poll(None if left is None else max(0.0, left) * 1000):
            raise DeadlineError("the database did not answer in time")
