"""psycopg2 connections that send BEGIN and the timeouts together with the first statement.

psycopg2 sends BEGIN in a separate message. Timeouts would be a second one and a check of the pooled
connection a third. With a database one millisecond away, that is three milliseconds of a request.

    sent:     BEGIN; SET LOCAL statement_timeout = …; SET LOCAL lock_timeout = …; SELECT …
    received: the results of all statements, in one round trip
"""

import time
from typing import Any, cast

from psycopg2 import ProgrammingError, extensions

from core import deadlines

# A wait for a lock ends before its statement would, so that the error tells the two apart.
LOCK_SHARE = 0.75
# Parameters that PostgreSQL (since 14) reports unasked for a read-only session.
READ_ONLY_REPORTS = ("default_transaction_read_only", "in_hot_standby")
# A sweep that is frozen during a batch, or whose host is gone, would keep thousands of rows locked
# until TCP ends the connection, hours later. Requests lock few rows and save this statement.
IDLE_TIMEOUT_MS = 10_000  # milliseconds
MAX_REQUEST_MS = 1_000
READ_COMMITTED = extensions.ISOLATION_LEVEL_READ_COMMITTED


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
    deadline = deadlines.current()
    if deadline is None:
        return "BEGIN; "
    milliseconds = max(1, round(deadline.seconds_for_statement() * 1000))  # 0 would mean no limit
    lock = max(1, round(milliseconds * LOCK_SHARE))
    limits = f"SET LOCAL statement_timeout = {milliseconds}; SET LOCAL lock_timeout = {lock}; "
    if deadline.is_single_statement:
        return limits
    if milliseconds > MAX_REQUEST_MS:
        limits += f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}; "
    return f"BEGIN; {limits}"
