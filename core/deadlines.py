"""Deadlines of database calls, measured by the clock of this process.

PostgreSQL's own timeouts end a statement that takes too long, but only while the server runs.
psycopg2's wait callback ends the wait on this side as well.
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
# Added to the server's own timeouts, so that it can report them itself.
GRACE_SECONDS = 0.15


class DeadlineError(OperationalError):
    """The deadline has passed; the connection that was waited for is closed."""


class ServerSilentError(DeadlineError):
    """The server has not answered for `seconds`, although its own timeouts are shorter."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the database has not answered for {seconds:.2f} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment on the monotonic clock at which a thread's work must end, and its other limits.

    The server ends each statement after `statement_seconds`; its answer may take `grace_seconds`
    longer, including the network. `is_request` while a client waits.
    """

    moment: float
    is_request: bool = False
    statement_seconds: float = math.inf
    grace_seconds: float = GRACE_SECONDS


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
# Multiplies every time limit of this process, so that tests of behaviour pass on a busy machine.
_scale = 1.0


def set_scale(scale: float) -> None:
    """Multiply the time limits that begin from now on; 1 outside tests."""
    global _scale  # noqa: PLW0603 - one for all threads of the process
    _scale = scale


def scaled(seconds: float) -> float:
    """Return a time limit of this process, multiplied by the scale."""
    return seconds * _scale


def install_wait_callback() -> None:
    """Apply the deadline of the calling thread to every database connection of this process."""
    extensions.set_wait_callback(_wait)


def begin(seconds: float) -> None:
    """Set the deadline of a request for this thread's database calls."""
    _deadline.set(Deadline(time.monotonic() + scaled(seconds), is_request=True))


def end() -> None:
    """Remove the deadline of a request, before the thread serves the next one."""
    _deadline.set(None)


def seconds_left() -> float | None:
    """Return the seconds until the deadline, 0 or less if it has passed; None without deadline."""
    deadline = _deadline.get()
    return None if deadline is None else deadline.moment - time.monotonic()


def is_request() -> bool:
    """Whether this thread works for a request, so that a client waits."""
    deadline = _deadline.get()
    return deadline is not None and deadline.is_request


def statement_seconds() -> float | None:
    """Return the server's time limit for the next statement; None without deadline."""
    deadline = _deadline.get()
    if deadline is None:
        return None
    left = deadline.moment - time.monotonic() - deadline.grace_seconds
    return min(deadline.statement_seconds, left)


def within(seconds: float, **limits: float) -> AbstractContextManager[None]:
    """Limit the database calls inside to `seconds` and to the rest of the request's time.

    `limits` are those of a Deadline: `statement_seconds` and `grace_seconds`.
    """
    ends_at, outer = time.monotonic() + scaled(seconds), _deadline.get()
    if outer is not None:
        ends_at = min(ends_at, outer.moment)
    return _apply(ends_at, limits)


def beyond(seconds: float, **limits: float) -> AbstractContextManager[None]:
    """Limit the database calls inside to `seconds`, also beyond the request's deadline."""
    return _apply(time.monotonic() + scaled(seconds), limits)


@contextmanager
def _apply(ends_at: float, limits: dict[str, float]) -> Iterator[None]:
    limits = {name: scaled(seconds) for name, seconds in limits.items()}
    token = _deadline.set(Deadline(ends_at, is_request=is_request(), **limits))
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
