"""Deadlines of database calls, on the server and in this process, and psycopg2 connections.

PostgreSQL's own timeouts end a statement that takes too long, but only while the server runs.
psycopg2's wait callback ends the wait on this side as well, by the clock of this process.

psycopg2 sends BEGIN in a separate message. Timeouts would be a second one and a check of the pooled
connection a third. With a database one millisecond away, that is three milliseconds of a request.
The connections of this module send them together with the first statement:

    sent:     BEGIN; SET LOCAL statement_timeout = …; SET LOCAL lock_timeout = …; SELECT …
    received: the results of all statements, in one round trip
"""

import math
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from psycopg2 import OperationalError, ProgrammingError, extensions

POLLED = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}
# Added to the server's own timeouts, so that it can report them itself.
GRACE_SECONDS = 0.15
# A wait for a lock ends before its statement would, so that the error tells the two apart.
LOCK_SHARE = 0.75
# Parameters that PostgreSQL (since 14) reports unasked for a read-only session.
READ_ONLY_REPORTS = ("default_transaction_read_only", "in_hot_standby")
# A sweep that is frozen during a batch, or whose host is gone, would keep thousands of rows locked
# until TCP ends the connection, hours later. Requests lock few rows and save this statement.
IDLE_TIMEOUT_MS = 10_000  # milliseconds
MAX_REQUEST_MS = 1_000
READ_COMMITTED = extensions.ISOLATION_LEVEL_READ_COMMITTED


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


_deadline: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
# When this process received the request that the thread serves, by the monotonic clock.
received_at: ContextVar[float | None] = ContextVar("received_at", default=None)
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


def set_for_request(seconds: float | None) -> None:
    """Set the deadline of a request for this thread's database calls; None after the request."""
    if seconds is None:
        _deadline.set(None)
        received_at.set(None)
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


class DeferredBeginCursor(extensions.cursor):
    """Sends BEGIN and the timeouts along with the first statement of a transaction."""

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - psycopg2's name
        """Execute as psycopg2 does; several statements in one message are one round trip."""
        begin = begin_statement(self.connection)
        super().execute(begin + query if begin else query, vars)

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Execute for each row of values; psycopg2 does not call `execute` for them."""
        begin = begin_statement(self.connection)
        if begin:
            super().execute(begin)
        super().executemany(query, vars_list)


class DeferredBeginConnection(extensions.connection):
    """A psycopg2 connection in autocommit mode that begins and ends transactions itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.autocommit = True  # or psycopg2 would send its own BEGIN
        self.cursor_factory = DeferredBeginCursor
        self.round_trip_seconds: float | None = None
        self.has_transactions = True

    def set_isolation_level(self, level: int | None) -> None:
        """Turn transactions off (AUTOCOMMIT) or on again, as SQLAlchemy and Alembic ask.

        Statements such as CREATE INDEX CONCURRENTLY run outside of transactions only.
        """
        self.rollback()
        if level not in (extensions.ISOLATION_LEVEL_AUTOCOMMIT, READ_COMMITTED):
            raise ProgrammingError("only AUTOCOMMIT and READ COMMITTED are supported")
        self.has_transactions = level != extensions.ISOLATION_LEVEL_AUTOCOMMIT

    def commit(self) -> None:
        """End the transaction, if there is one."""
        self._end_transaction("COMMIT")

    def rollback(self) -> None:
        """Roll the transaction back, if there is one."""
        self._end_transaction("ROLLBACK")

    @property
    def reports_read_only(self) -> bool:
        """Whether the server has reported a read-only session; a pooler may report an old state."""
        return any(self.get_parameter_status(name) == "on" for name in READ_ONLY_REPORTS)

    def is_read_only(self) -> bool:
        """Query whether the server refuses writes, outside any transaction; one round trip."""
        with self.cursor(cursor_factory=extensions.cursor) as cursor:
            cursor.execute("SHOW transaction_read_only")
            return cursor.fetchone() == ("on",)

    def _end_transaction(self, command: str) -> None:
        if self.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE:
            return
        started = time.monotonic()
        with self.cursor() as cursor:
            cursor.execute(command)
        # The shortest one counts, because the server has little work with a COMMIT.
        elapsed = time.monotonic() - started
        self.round_trip_seconds = min(elapsed, self.round_trip_seconds or elapsed)


def begin_statement(connection: extensions.connection) -> str:
    """Return BEGIN with timeouts from the thread's deadline; blank within a transaction.

    They are local to the transaction, so that they work through a transaction-mode pooler. A single
    statement needs no BEGIN: the server runs all statements of one message in one transaction.
    """
    has_begun = connection.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE
    if has_begun or not cast(DeferredBeginConnection, connection).has_transactions:
        return ""
    deadline = _deadline.get()
    if deadline is None:
        return "BEGIN; "
    left = deadline.moment - time.monotonic() - deadline.grace_seconds
    seconds = min(deadline.statement_seconds, left)
    milliseconds = max(1, round(seconds * 1000))  # 0 would mean no limit
    lock = max(1, round(milliseconds * LOCK_SHARE))
    limits = f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = {lock}; "
    if deadline.is_single_statement:
        return limits
    if milliseconds > MAX_REQUEST_MS:
        limits += f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}; "
    return f"BEGIN; {limits}"
