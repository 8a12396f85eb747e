"""A pool whose connections open beside the requests, whose deadlines do not end an attempt.

To a far or slow server, connecting takes longer than a request may wait. SQLAlchemy's pool connects
in the thread that asks, so that the attempt ends with the request, and the next one starts afresh:
such a database is never reached. Here

1. a thread that finds no idle connection has one opened by another thread, with a time of its own;
2. it waits for whatever comes first: the new connection, or one that another thread gives back;
3. when it has waited long enough it gives up, and the connection is there for the next.

The first connection also answers what SQLAlchemy asks every new server (its dialect's
initialisation), in the same thread.

A session may stay read-only after its database has become writable again, or after another server
has taken its place. While the database is known to be read-only (ServerStatus)

4. a connection serves for `RENEWAL_SECONDS` at most, and a new one takes its place;
5. each new connection is asked whether it takes writes; the first one that does ends the outage,
   and all connections that are older are closed.
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
from core.connections import DeferredBeginConnection
from core.deadlines import DeadlineError, ServerSilentError
from core.server_status import PROBE_WAIT_SECONDS, ServerStatus

CONNECTION_LIMIT = 20  # of a process (CONTRACT section 8), those that are opening included
# While the server is silent: the way to it may be another by now, and the old attempt never hear.
ATTEMPT_INTERVAL_SECONDS = 1.0
MOST_ATTEMPTS = 10
# For each answer that SQLAlchemy's first questions get: other attempts wait until it has them all.
FIRST_ANSWER_SECONDS = 2.0
# While the database is read-only: the next connection may find it writable.
RENEWAL_SECONDS = 0.5
READ_ONLY_SQLSTATE = "25006"
CONNECTION_CLASS = "08"  # of SQLSTATEs: for poolers as well the connection is unusable afterwards
ENDS_SESSION = ("FATAL", "PANIC")
ROUND_TRIPS = 4  # BEGIN with the first statement, a second one, COMMIT, and one to spare


class KnownOutageError(OperationalError):
    """The server does not answer at the moment, and another thread is trying to reach it."""


class ConnectionPool(QueuePool):
    """At most `pool_size` connections, each opened in a thread of its own.

    `connect_seconds` is how long an attempt to connect may take; what SQLAlchemy asks the first
    connection may take as long again. `timeout` is how long a request waits for a connection: less
    by the time for which the server has been silent already, so that not every thread waits for it,
    but at least as long as a healthy server needs.
    """

    _sqla_logger_namespace = "sqlalchemy.pool"  # as quiet as the pools that come with SQLAlchemy

    def __init__(
        self, creator: Any, timeout: float = 30.0, connect_seconds: float = 10.0, **options: Any
    ) -> None:
        super().__init__(creator, **{**options, "timeout": timeout, "max_overflow": 0})
        self._queue = cast(Queue[ConnectionPoolEntry], self._pool)
        self.server = ServerStatus()
        self.connect_seconds = connect_seconds
        self._opening = 0
        self._waiting = 0
        self._last_attempt_at = -float("inf")
        self._failures = 0
        self._last_failure: Exception | None = None
        self._is_disposed = False

    def open_first(self, wait_seconds: float) -> None:
        """Open a connection if there is none; return when it is open or has failed, or after
        `wait_seconds`, while it goes on opening.
        """
        until = time.monotonic() + wait_seconds
        with self._queue.not_empty:
            failures = self._failures
            if self._is_wanting_first():
                self._start_attempt()
            while self._established() == 0 and self._failures == failures:
                left = until - time.monotonic()
                if left <= 0 or self._is_disposed:
                    return
                self._queue.not_empty.wait(left)

    def recreate(self) -> "ConnectionPool":
        """A pool with the same settings and the same knowledge of the server, and no connection."""
        pool = cast(ConnectionPool, super().recreate())
        pool.server = self.server
        pool.connect_seconds = self.connect_seconds
        return pool

    def dispose(self) -> None:
        """Close the idle connections now, the others as soon as they come back or are open."""
        with self._queue.not_empty:
            self._is_disposed = True
            self._queue.not_empty.notify_all()
        super().dispose()

    def _do_get(self) -> ConnectionPoolEntry:
        left = deadlines.seconds_left()
        if left is not None and left <= self.server.round_trip_seconds:
            raise DeadlineError("no time is left to ask the database")
        with self._queue.mutex:
            return self._idle_record() or self._wait_for_record()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        with self._queue.not_empty:
            if self._is_disposed or not _is_open(record):
                self._discard(record)
            else:
                self._note_answer(record)
                self._queue.put(record, block=False)

    def _idle_record(self) -> ConnectionPoolEntry | None:
        """Take an idle connection that the server has not closed meanwhile."""
        while True:
            try:
                record = self._queue.get_nowait()
            except Empty:
                return None
            if _is_open(record) and not self._is_outdated(record) and not _is_hung_up(record):
                return record
            self._discard(record)

    def _wait_for_record(self) -> ConnectionPoolEntry:
        """Wait for a connection, whichever is free first; called under the lock.

        Raises what the last attempt to connect has failed with, KnownOutageError when the server
        has not answered in time, and SQLAlchemy's TimeoutError when it has, to others.
        """
        until = time.monotonic() + self._wait_limit()
        failures, answers = self._failures, self.server.answers
        self._waiting += 1
        try:
            while (record := self._idle_record()) is None:
                if self._failures > failures and (self._opening == 0 or not deadlines.is_request()):
                    raise cast(Exception, self._last_failure)
                self._open_where_useful()
                left = until - time.monotonic()
                if left <= 0 or self._is_disposed:
                    raise self._none_in_time(is_silent=self.server.answers == answers)
                self._queue.not_empty.wait(min(left, ATTEMPT_INTERVAL_SECONDS))
        finally:
            self._waiting -= 1
        return record

    def _wait_limit(self) -> float:
        left = deadlines.seconds_left()
        as_long_as_it_takes = 2 * self.connect_seconds + ATTEMPT_INTERVAL_SECONDS
        if left is None:
            return as_long_as_it_takes
        if not deadlines.is_request():
            return min(left, as_long_as_it_takes)
        for_the_work = ROUND_TRIPS * self.server.round_trip_seconds
        patience = max(PROBE_WAIT_SECONDS, self._timeout - self.server.silent_seconds)
        return min(left - for_the_work, patience)

    def _none_in_time(self, *, is_silent: bool) -> Exception:
        if is_silent and self.server.silent_seconds > 0:
            return KnownOutageError("the database does not answer")
        return PoolTimeoutError(f"all connections are in use: {self.status()}")

    def _open_where_useful(self) -> None:
        """Open as many connections as threads wait for; one a second while it is silent."""
        if self._is_disposed:
            return
        if not self.server.is_answering:
            if self._is_another_attempt_due():
                self._start_attempt()
            return
        room = self.size() - self._established() - self._opening
        for _ in range(min(self._waiting - self._opening, room)):
            self._start_attempt()

    def _is_wanting_first(self) -> bool:
        return not self._is_disposed and self._established() == 0 and self._opening == 0

    def _is_another_attempt_due(self) -> bool:
        """While the server is silent; one after the other, and beside those that hear nothing."""
        if self._established() >= self.size():
            return False
        if self._opening == 0:
            return True
        room = min(MOST_ATTEMPTS, CONNECTION_LIMIT - self._established())
        interval = max(ATTEMPT_INTERVAL_SECONDS, self.connect_seconds / MOST_ATTEMPTS)
        return self._opening < room and time.monotonic() - self._last_attempt_at >= interval

    def _start_attempt(self) -> None:
        threading.Thread(target=self._attempt, name="connecting", daemon=True).start()
        self._opening += 1
        self._last_attempt_at = time.monotonic()
        self.server.note_attempt()

    def _attempt(self) -> None:
        """Open one connection; runs in a thread of its own."""
        try:
            with deadlines.beyond(2 * self.connect_seconds, statement_seconds=FIRST_ANSWER_SECONDS):
                record = self._create_connection()
                is_read_only = self._is_read_only(record)
        except Exception as err:  # whatever it is, the threads that wait have to know
            self._note_failure(err)
        else:
            self._add(record, is_read_only=is_read_only)

    def _is_read_only(self, record: ConnectionPoolEntry) -> bool:
        """Whether a new connection refuses writes; asked only where there is reason to think so."""
        connection = cast(DeferredBeginConnection, record.dbapi_connection)
        if not self.server.is_read_only and not connection.reports_read_only:
            return False
        try:
            return connection.is_read_only()
        except Exception:
            record.close()
            raise

    def _note_failure(self, err: Exception) -> None:
        with self._queue.not_empty:
            self._opening -= 1
            self._failures += 1
            self._last_failure = err
            self.server.note_failure()
            self._queue.not_empty.notify_all()

    def _add(self, record: ConnectionPoolEntry, *, is_read_only: bool) -> None:
        with self._queue.not_empty:
            self._opening -= 1
            self._note_answer(record)
            if is_read_only:
                self.server.note_read_only()
            elif self.server.is_read_only:
                self.server.note_writable()
                self._invalidate_time = time.time()  # sessions before may be read-only for good
            if self._is_disposed or not self._inc_overflow():
                record.close()  # several attempts may have heard from the server at once
            else:
                # It has worked just now, also if the pool lost its trust in older ones meanwhile.
                cast(Any, record).starttime = time.time()
                self._queue.put(record, block=False)
            self._queue.not_empty.notify_all()

    def _note_answer(self, record: ConnectionPoolEntry) -> None:
        connection = cast(DeferredBeginConnection, record.dbapi_connection)
        self.server.note_answer(connection.round_trip_seconds, is_connecting=self._opening > 0)

    def _discard(self, record: ConnectionPoolEntry) -> None:
        """Close a connection and let another one take its place."""
        record.close()
        self._dec_overflow()
        self._queue.not_empty.notify()

    def _is_outdated(self, record: ConnectionPoolEntry) -> bool:
        """Whether this connection may be read-only although a new one would not be."""
        opened_at = cast(float, cast(Any, record).starttime)
        return self.server.is_read_only and time.time() - opened_at > RENEWAL_SECONDS

    def _established(self) -> int:
        """How many connections there are, idle or in use."""
        return self.size() + self.overflow()


def prepare_engine(engine: Engine) -> None:
    """Bound each attempt of this engine to connect, and what an error means for the others."""
    pool = pool_of(engine)

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _: object, args: list[str], kwargs: dict[str, str]) -> object:
        with deadlines.within(pool.connect_seconds):
            connection: DBAPIConnection = dialect.connect(*args, **kwargs)
            return connection

    @event.listens_for(engine, "handle_error")
    def judge(context: ExceptionContext) -> None:
        _note_error(pool.server, context)


def _note_error(server: ServerStatus, context: ExceptionContext) -> None:
    error = context.original_exception
    if isinstance(error, ServerSilentError):
        server.note_silence(error.seconds)
    elif isinstance(error, DeadlineError):
        # A thread that ran out of time says nothing about the server and other connections.
        context.invalidate_pool_on_disconnect = False
    elif isinstance(error, DriverError) and error.pgcode == READ_ONLY_SQLSTATE:
        server.note_read_only()
    elif isinstance(error, DriverError) and ends_session(error):
        context.is_disconnect = True


def ends_session(error: DriverError) -> bool:
    """Whether the server, or a pooler before it, has given up the session with this error.

    Poolers report their own troubles as fatal errors, under any SQLSTATE (08P01, XX000).
    """
    is_fatal = error.diag.severity_nonlocalized in ENDS_SESSION
    return is_fatal or (error.pgcode or "").startswith(CONNECTION_CLASS)


def pool_of(engine: Engine) -> ConnectionPool:
    """The pool of an engine of this program."""
    return cast(ConnectionPool, engine.pool)


def _is_open(record: ConnectionPoolEntry) -> bool:
    return not cast(Any, record)._is_hard_or_soft_invalidated()  # noqa: SLF001 - as SQLAlchemy asks


def _is_hung_up(record: ConnectionPoolEntry) -> bool:
    """Whether the server has closed this idle connection: only then is there something to read.

    One that was never used is not looked at. Should the server close every new one at once, the
    first statement reports it, as an error that can pass; opening ever more would not end.
    """
    is_used, record.info["is_used"] = "is_used" in record.info, True
    if not is_used:
        return False
    poll = select.poll()
    poll.register(cast(extensions.connection, record.dbapi_connection).fileno(), select.POLLIN)
    return bool(poll.poll(0))
