"""Deadlines of database calls, measured by the clock of this process.

PostgreSQL's own timeouts end a statement that takes too long, but only while the server runs.
psycopg2's wait callback ends the wait on this side as well.
"""

import math
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
    longer, including the network. `is_request` while a client waits. `is_single_statement`: each
    statement is a transaction of its own.
    """

    moment: float
    is_request: bool = False
    is_single_statement: bool = False
    statement_seconds: float = math.inf
    grace_seconds: float = GRACE_SECONDS

    def seconds_for_statement(self) -> float:
        """Return the server's time limit for the next statement, 0 or less if it has passed."""
        left = self.moment - time.monotonic() - self.grace_seconds
        return min(self.statement_seconds, left)


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
_received_at: ContextVar[float | None] = ContextVar("received_at", default=None)
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


def note_received(moment: float) -> None:
    """Note when this process received the request that this thread is going to serve."""
    _received_at.set(moment)


def received_at() -> float | None:
    """Return when this process received the request, by the monotonic clock; None if unknown."""
    return _received_at.get()


def set_for_request(seconds: float | None) -> None:
    """Set the deadline of a request for this thread's database calls; None after the request."""
    if seconds is None:
        _deadline.set(None)
        _received_at.set(None)
    else:
        _deadline.set(Deadline(time.monotonic() + seconds * _scale, is_request=True))


def seconds_left() -> float | None:
    """Return the seconds until the deadline, 0 or less if it has passed; None without deadline."""
    deadline = _deadline.get()
    return None if deadline is None else deadline.moment - time.monotonic()


def is_request() -> bool:
    """Whether this thread works for a request, so that a client waits."""
    deadline = _deadline.get()
    return deadline is not None and deadline.is_request


def current() -> Deadline | None:
    """Return the deadline of this thread, if there is one."""
    return _deadline.get()


@contextmanager
def within(
    seconds: float,
    *,
    is_background: bool = False,
    is_single_statement: bool = False,
    **limits: float,
) -> Iterator[None]:
    """Limit the database calls inside to `seconds` and to the rest of the request's time.

    `is_background` ignores the request's time. `is_single_statement` and the `limits`,
    `statement_seconds` and `grace_seconds`, are those of a Deadline.
    """
    ends_at, outer = time.monotonic() + seconds * _scale, _deadline.get()
    if outer is not None and not is_background:
        ends_at = min(ends_at, outer.moment)
    limits = {name: limit * _scale for name, limit in limits.items()}
    is_for_request = outer is not None and outer.is_request
    token = _deadline.set(Deadline(ends_at, is_for_request, is_single_statement, **limits))
    try:
        yield
    finally:
        _deadline.reset(token)


def _wait(connection: extensions.connection) -> None:
    """Wait for the server's answer; psycopg2 closes the connection when this raises.

    Raises ServerSilentError once the server is later than its own time limit allows, and
    DeadlineError at the deadline of this thread.
    """
    deadline = _deadline.get()
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        poll.register(connection.fileno(), POLLED[state])
        if deadline is None:
            poll.poll()
            continue
        left = deadline.moment - time.monotonic()
        longest_answer = deadline.statement_seconds + deadline.grace_seconds
        if poll.poll(max(0.0, min(left, longest_answer)) * 1000):
            continue
        if longest_answer <= left:
            raise ServerSilentError(longest_answer)
        raise DeadlineError("the database did not answer in time")
