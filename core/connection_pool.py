"""A connection pool that opens connections in separate threads, independent of request deadlines.

To a far or slow server, connecting takes longer than a request may wait. SQLAlchemy's pool connects
in the calling thread, so that each attempt ends with its request and such a database is never
reached. Here:

1. A thread that finds no idle connection starts another thread that opens one, with its own limit.
2. It waits for the new connection, or for one that another thread returns, whichever is first.
3. When its own limit is over it gives up; the new connection serves a later request. While the
   first connection is being opened, a few threads may wait longer (`wait_while_connecting`).

The first connection also runs the queries of SQLAlchemy's dialect initialisation, in that thread.

A session may stay read-only after its database has become writable again, or after another server
has replaced it. While the database is known to be read-only (ServerStatus):

4. A connection is used for `RENEWAL_SECONDS` at most and then replaced.
5. Each new connection is checked for whether it accepts writes. The first one that does ends the
   outage, and all older connections are closed.
"""

import select
import threading
import time
from typing import Any, cast

from psycopg2 import Error as DriverError
from psycopg2 import OperationalError, extensions
from sqlalchemy import Engine, QueuePool, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util.queue import Empty, Queue

from core import deadlines
from core.deadlines import DeadlineError, DeferredBeginConnection, ServerSilentError
from core.server_status import PROBE_WAIT_SECONDS, ServerStatus

CONNECTION_LIMIT = 20  # of a process, those being opened included (contract.md#bounds)
# While the server is silent: the route to it may have changed, and older attempts may never end.
ATTEMPT_INTERVAL_SECONDS = 1.0
MAX_ATTEMPTS = 10
# For each query of the dialect's initialisation: other attempts wait until all are answered.
INITIALISATION_QUERY_SECONDS = 2.0
# While the database is read-only: a new connection may find it writable.
RENEWAL_SECONDS = 0.5
READ_ONLY_SQLSTATE = "25006"
CONNECTION_CLASS = "08"  # of SQLSTATEs; also from poolers it means an unusable connection
LONG_WAITS = 2  # threads that wait for the first connection in full; others serve requests
ROUND_TRIPS = 4  # BEGIN with the first statement, a second one, COMMIT, and one to spare


class KnownOutageError(OperationalError):
    """The server does not answer now, and another thread is trying to connect to it."""


class ConnectionPool(QueuePool):
    """At most `pool_size` connections, each opened in a separate thread.

    `connect_seconds` limits an attempt to connect; the dialect's initialisation may take as long
    again. `timeout` is how long a request waits for a connection. It is reduced by the time for
    which the server has been silent already, so that not every thread waits in full. A healthy
    server always has time enough to open a connection.
    """

    _sqla_logger_namespace = "sqlalchemy.pool"  # the log level of SQLAlchemy's own pools

    def __init__(
        self, creator: Any, timeout: float = 30.0, connect_seconds: float = 10.0, **options: Any
    ) -> None:
        super().__init__(creator, **{**options, "timeout": timeout, "max_overflow": 0})
        self._queue = cast(Queue[ConnectionPoolEntry], self._pool)
        self.server = ServerStatus()
        self.connect_seconds = connect_seconds
        self._opening = 0
        self._waiting = 0
        self._long_waits = 0
        self._last_attempt_at = -float("inf")
        self._failures = 0
        self._last_failure: Exception | None = None
        self._is_disposed = False

    def open_first(self, wait_seconds: float) -> None:
        """Open a connection if there is none; return when it is open or has failed.

        Returns after `wait_seconds` in any case; the attempt continues.
        """
        until = time.monotonic() + wait_seconds
        with self._queue.not_empty:
            failures = self._failures
            if not self._is_disposed and self._established() == 0 and self._opening == 0:
                self._start_attempt()
            while self._established() == 0 and self._failures == failures:
                left = until - time.monotonic()
                if left <= 0 or self._is_disposed:
                    return
                self._queue.not_empty.wait(left)

    @property
    def is_connecting(self) -> bool:
        """Whether the first connection is being opened and no attempt has failed."""
        return self.server.is_connecting and self._established() == 0

    def wait_while_connecting(self, seconds: float) -> None:
        """Wait for the first connection while it is being opened, unless others wait already."""
        if not self.is_connecting:
            return
        until = time.monotonic() + seconds
        with self._queue.not_empty:
            if self._long_waits >= LONG_WAITS:
                return
            self._long_waits += 1
            try:
                while self.is_connecting and (left := until - time.monotonic()) > 0:
                    self._queue.not_empty.wait(left)
            finally:
                self._long_waits -= 1

    def recreate(self) -> "ConnectionPool":
        """Return an empty pool with the same settings and the same ServerStatus."""
        pool = cast(ConnectionPool, super().recreate())
        pool.server = self.server
        pool.connect_seconds = self.connect_seconds
        return pool

    def dispose(self) -> None:
        """Close the idle connections now, the others when they are returned or opened."""
        with self._queue.not_empty:
            self._is_disposed = True
            self._queue.not_empty.notify_all()
        super().dispose()

    def _do_get(self) -> ConnectionPoolEntry:
        left = deadlines.seconds_left()
        if left is not None and left <= self.server.round_trip_seconds:
            raise DeadlineError("no time is left for a query")
        with self._queue.mutex:
            return self._idle_record() or self._wait_for_record()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        with self._queue.not_empty:
            if self._is_disposed or cast(Any, record)._is_hard_or_soft_invalidated():  # noqa: SLF001
                self._discard(record)
            else:
                self._note_answer(record)
                self._queue.put(record, block=False)

    def _idle_record(self) -> ConnectionPoolEntry | None:
        """Take an idle connection that the server has not closed; None if there is none."""
        while True:
            try:
                record = self._queue.get_nowait()
            except Empty:
                return None
            if self._is_usable(record):
                return record
            self._discard(record)

    def _wait_for_record(self) -> ConnectionPoolEntry:
        """Wait for the first free connection; called under the lock.

        Raises the error of the last attempt to connect, or KnownOutageError when the server has not
        answered in time. Raises SQLAlchemy's TimeoutError when it has answered other threads only.
        """
        until = time.monotonic() + self._wait_limit()
        failures, answers = self._failures, self.server.answers
        self._waiting += 1
        try:
            while (record := self._idle_record()) is None:
                if self._failures > failures and (self._opening == 0 or not deadlines.is_request()):
                    raise cast(Exception, self._last_failure)
                self._open_needed()
                left = until - time.monotonic()
                if left <= 0 or self._is_disposed:
                    if self.server.answers == answers and self.server.silent_seconds > 0:
                        raise KnownOutageError("the database does not answer")
                    raise PoolTimeoutError(f"all connections are in use: {self.status()}")
                self._queue.not_empty.wait(min(left, ATTEMPT_INTERVAL_SECONDS))
        finally:
            self._waiting -= 1
        return record

    def _wait_limit(self) -> float:
        left = deadlines.seconds_left()
        unlimited = 2 * self.connect_seconds + ATTEMPT_INTERVAL_SECONDS
        if left is None:
            return unlimited
        if not deadlines.is_request():
            return min(left, unlimited)
        work_seconds = ROUND_TRIPS * self.server.round_trip_seconds
        wait_seconds = max(PROBE_WAIT_SECONDS, self._timeout - self.server.silent_seconds)
        return min(left - work_seconds, wait_seconds)

    def _open_needed(self) -> None:
        """Open a connection for each waiting thread; one a second while the server is silent."""
        if self._is_disposed:
            return
        if not self.server.can_open_several:
            if self._is_another_attempt_due():
                self._start_attempt()
            return
        room = self.size() - self._established() - self._opening
        for _ in range(min(self._waiting - self._opening, room)):
            self._start_attempt()

    def _is_another_attempt_due(self) -> bool:
        """Whether one more attempt may start beside unanswered ones while the server is silent."""
        if self._established() >= self.size():
            return False
        if self._opening == 0:
            return True
        room = min(MAX_ATTEMPTS, CONNECTION_LIMIT - self._established())
        interval = max(ATTEMPT_INTERVAL_SECONDS, self.connect_seconds / MAX_ATTEMPTS)
        return self._opening < room and time.monotonic() - self._last_attempt_at >= interval

    def _start_attempt(self) -> None:
        threading.Thread(target=self._attempt, name="connecting", daemon=True).start()
        self._opening += 1
        self._last_attempt_at = time.monotonic()
        self.server.note_attempt()

    def _attempt(self) -> None:
        """Open one connection and add it to the pool; runs in a separate thread."""
        try:
            with deadlines.within(
                2 * self.connect_seconds,
                is_background=True,
                statement_seconds=INITIALISATION_QUERY_SECONDS,
            ):
                record = self._create_connection()
                is_read_only = self._is_read_only(record)
        except Exception as err:  # every error must end the wait of other threads
            with self._queue.not_empty:
                self._opening -= 1
                self._failures += 1
                self._last_failure = err
                self.server.note_failure()
                self._queue.not_empty.notify_all()
        else:
            self._add(record, is_read_only=is_read_only)

    def _is_read_only(self, record: ConnectionPoolEntry) -> bool:
        """Whether a new connection refuses writes; queried only where there is a sign of it."""
        connection = cast(DeferredBeginConnection, record.dbapi_connection)
        if not self.server.is_read_only and not connection.reports_read_only:
            return False
        try:
            return connection.is_read_only()
        except Exception:
            record.close()
            raise

    def _add(self, record: ConnectionPoolEntry, *, is_read_only: bool) -> None:
        with self._queue.not_empty:
            self._opening -= 1
            self._note_answer(record)
            if is_read_only:
                self.server.note_read_only()
            elif self.server.is_read_only:
                self.server.note_writable()
                self._invalidate_time = time.time()  # older sessions may stay read-only
            if self._is_disposed or not self._inc_overflow():
                record.close()  # several attempts may have succeeded at once
            else:
                # It was opened just now, so that an invalidation of older ones must not hit it.
                cast(Any, record).starttime = time.time()
                self._queue.put(record, block=False)
            self._queue.not_empty.notify_all()

    def _note_answer(self, record: ConnectionPoolEntry) -> None:
        connection = cast(DeferredBeginConnection, record.dbapi_connection)
        self.server.note_answer(connection.round_trip_seconds, is_connecting=self._opening > 0)

    def _discard(self, record: ConnectionPoolEntry) -> None:
        """Close a connection and free its place in the pool."""
        record.close()
        self._dec_overflow()
        self._queue.not_empty.notify()

    def _is_usable(self, record: ConnectionPoolEntry) -> bool:
        """Whether an idle connection may be used.

        While the database is read-only, a new connection may find it writable, so that older ones
        are replaced. A connection that the server has closed has something to read. One that was
        never used is not checked for that. If the server closes every new one at once, the first
        statement fails with a transient error; replacing them would never end.
        """
        if cast(Any, record)._is_hard_or_soft_invalidated():  # noqa: SLF001 - as SQLAlchemy asks
            return False
        age_seconds = time.time() - cast(Any, record).starttime
        if self.server.is_read_only and age_seconds > RENEWAL_SECONDS:
            return False
        is_used, record.info["is_used"] = "is_used" in record.info, True
        if not is_used:
            return True
        poll = select.poll()
        connection = cast(extensions.connection, record.dbapi_connection)
        poll.register(connection.fileno(), select.POLLIN)
        return not poll.poll(0)

    def _established(self) -> int:
        """Return the number of connections, idle or in use."""
        return self.size() + self.overflow()


def prepare_engine(engine: Engine) -> None:
    """Limit the engine's attempts to connect, and evaluate its errors for the server status."""
    pool = pool_of(engine)

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _: object, args: list[str], kwargs: dict[str, str]) -> object:
        with deadlines.within(pool.connect_seconds):
            connection: DBAPIConnection = dialect.connect(*args, **kwargs)
            return connection

    @event.listens_for(engine, "handle_error")
    def handle_error(context: ExceptionContext) -> None:
        error = context.original_exception
        if isinstance(error, ServerSilentError):
            pool.server.note_silence(error.seconds)
        elif isinstance(error, DeadlineError):
            # A deadline of one thread does not concern the server and other connections.
            context.invalidate_pool_on_disconnect = False
        elif isinstance(error, DriverError) and error.pgcode == READ_ONLY_SQLSTATE:
            pool.server.note_read_only()
        elif isinstance(error, DriverError) and ends_session(error):
            context.is_disconnect = True


def ends_session(error: DriverError) -> bool:
    """Whether the server, or a pooler before it, has ended the session with this error.

    Poolers report their own failures as fatal errors, under any SQLSTATE (08P01, XX000).
    """
    is_fatal = error.diag.severity_nonlocalized in ("FATAL", "PANIC")
    return is_fatal or (error.pgcode or "").startswith(CONNECTION_CLASS)


def pool_of(engine: Engine) -> ConnectionPool:
    """Return the engine's pool with its actual type."""
    return cast(ConnectionPool, engine.pool)
