"""How long a thread waits for the database, measured by the clock of this process.

PostgreSQL's own timeouts end a statement that takes too long, but only a server that still runs can
keep them. psycopg2's wait callback keeps the time on this side as well.
"""

import math
import select
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from psycopg2 import OperationalError, extensions

POLLED = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}
# On top of its own limits a server gets this much, to report by itself that the time is up.
GRACE_SECONDS = 0.15


class DeadlineError(OperationalError):
    """The time for the work is up; the connection that was waited for is closed."""


class ServerSilentError(DeadlineError):
    """The server has not answered for `seconds`, although its own limits end a statement sooner."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the database has not answered for {seconds:.2f} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """When the work of a thread has to end, on the monotonic clock, and what it allows meanwhile.

    The server is told to end each statement after `statement_seconds`; its answer may take
    `grace_seconds` longer, the time on the way included. `is_request` while a client waits.
    """

    moment: float
    is_request: bool = False
    statement_seconds: float = math.inf
    grace_seconds: float = GRACE_SECONDS


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)


def watch() -> None:
    """Make every connection of this process keep the deadline of the thread that uses it."""
    extensions.set_wait_callback(_wait)


def begin(seconds: float) -> None:
    """Start the time of a request: what its thread asks the database ends within it."""
    _deadline.set(Deadline(time.monotonic() + seconds, is_request=True))


def end() -> None:
    """End the time of a request; the thread's next request has a time of its own."""
    _deadline.set(None)


def seconds_left() -> float | None:
    """How long the database may still be waited for, 0 or less when the time is up; None where
    no end is set.
    """
    deadline = _deadline.get()
    return None if deadline is None else deadline.moment - time.monotonic()


def is_request() -> bool:
    """Whether a client waits for what this thread does."""
    deadline = _deadline.get()
    return deadline is not None and deadline.is_request


def statement_seconds() -> float | None:
    """How long the server may work at the next statement; None where no end is set."""
    deadline = _deadline.get()
    if deadline is None:
        return None
    left = deadline.moment - time.monotonic() - deadline.grace_seconds
    return min(deadline.statement_seconds, left)


def within(seconds: float, **limits: float) -> AbstractContextManager[None]:
    """Bound what is asked inside, by these seconds and by the time the request has left.

    `limits` are those of a Deadline: `statement_seconds` and `grace_seconds`.
    """
    moment, outer = time.monotonic() + seconds, _deadline.get()
    if outer is not None:
        moment = min(moment, outer.moment)
    return _until(Deadline(moment, is_request=is_request(), **limits))


def beyond(seconds: float, **limits: float) -> AbstractContextManager[None]:
    """Bound what is asked inside by these seconds alone, also beyond the request's time."""
    return _until(Deadline(time.monotonic() + seconds, is_request=is_request(), **limits))


@contextmanager
def _until(deadline: Deadline) -> Iterator[None]:
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def _wait(connection: extensions.connection) -> None:
    """Wait for the server's answer; psycopg2 closes the connection when this raises."""
    deadline = _deadline.get()
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        poll.register(connection.fileno(), POLLED[state])
        if deadline is None:
            poll.poll()
        else:
            _wait_once(poll, deadline)


def _wait_once(poll: select.poll, deadline: Deadline) -> None:
    left = deadline.moment - time.monotonic()
    longest_answer = deadline.statement_seconds + deadline.grace_seconds
    if poll.poll(max(0.0, min(left, longest_answer)) * 1000):
        return
    if longest_answer <= left:
        raise ServerSilentError(longest_answer)
    raise DeadlineError("the database did not answer in time")
