"""Connections that spare round trips: a transaction opens with its first statement.

psycopg2 sends BEGIN in a message of its own, limits of time would be another, and asking whether a
connection from the pool is still there a third. Where the database is a millisecond away, that is
three milliseconds of every request.
"""

import time
from typing import Any

from psycopg2 import extensions

from core import deadlines

# A wait for a lock ends before its statement would, so that the error says which of the two it was.
LOCK_SHARE = 0.75
# What PostgreSQL (since 14) reports by itself of a session whose transactions are read-only.
READ_ONLY_REPORTS = ("default_transaction_read_only", "in_hot_standby")
# A sweep that is frozen in the middle of a batch, or whose host is gone, would keep thousands of
# rows locked until TCP gives up, hours later. Requests lock few, and each statement costs them.
LONGEST_IDLE = 10_000  # milliseconds
LONGEST_REQUEST = 1_000


class DeferredBeginCursor(extensions.cursor):
    """Sends what opens the transaction along with its first statement."""

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - psycopg2's name
        """Execute, as psycopg2 does; several statements in one message are one round trip."""
        super().execute(
            query if _is_in_transaction(self.connection) else begin_statement() + query, vars
        )

    def executemany(self, query: Any, vars_list: Any) -> None:
        """Execute for each; psycopg2 sends them without asking `execute`."""
        if not _is_in_transaction(self.connection):
            super().execute(begin_statement())
        super().executemany(query, vars_list)


class DeferredBeginConnection(extensions.connection):
    """For SQLAlchemy a connection as any other, which opens and ends transactions by itself."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.autocommit = True  # or psycopg2 would send its own BEGIN
        self.cursor_factory = DeferredBeginCursor
        self.round_trip_seconds: float | None = None

    def commit(self) -> None:
        """End the transaction, if there is one."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Take back the transaction, if there is one."""
        self._end("ROLLBACK")

    @property
    def reports_read_only(self) -> bool:
        """Whether the server has reported a read-only session; a pooler may report an old state."""
        return any(self.get_parameter_status(name) == "on" for name in READ_ONLY_REPORTS)

    def is_read_only(self) -> bool:
        """Ask the server whether it refuses writes, outside any transaction; one round trip."""
        with self.cursor(cursor_factory=extensions.cursor) as cursor:
            cursor.execute("SHOW transaction_read_only")
            return cursor.fetchone() == ("on",)

    def _end(self, command: str) -> None:
        if not _is_in_transaction(self):
            return
        started = time.monotonic()
        with self.cursor() as cursor:
            cursor.execute(command)
        # The least that one took, because the server has hardly any work with it.
        taken = time.monotonic() - started
        self.round_trip_seconds = min(taken, self.round_trip_seconds or taken)


def begin_statement() -> str:
    """What a transaction begins with: limits for this transaction only, so that they hold through a
    transaction-mode pooler, by the time that the thread's work has left.
    """
    seconds = deadlines.statement_seconds()
    if seconds is None:
        return "BEGIN; "
    milliseconds = max(1, round(seconds * 1000))  # 0 would mean no limit at all
    lock = max(1, round(milliseconds * LOCK_SHARE))
    limits = f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = {lock}; "
    if milliseconds > LONGEST_REQUEST:
        limits += f"SET LOCAL idle_in_transaction_session_timeout = {LONGEST_IDLE}; "
    return f"BEGIN; {limits}"


def _is_in_transaction(connection: extensions.connection) -> bool:
    return connection.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE
