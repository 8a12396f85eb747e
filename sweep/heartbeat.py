"""The heartbeat of a running sweep: a thread extends the lease while the steps run.

1. The thread extends the lease every `BEAT_SECONDS`, on a connection of its own. It ends with the
   sweep, so that no statement reaches the database between sweeps.
2. Each transaction and each step of the sweep records that it is working. If one takes longer than
   `LONGEST_STEP_SECONDS`, the sweep hangs, and the heartbeat ends.
3. If the last heartbeat is older than half the lease, because the process was frozen or the
   database was away, the next step first checks the owner of the run. In any case `runs.report`
   refuses progress of another owner.
4. If the process is stopping and the step does not end within `GRACE_SECONDS`, the thread returns
   the run to the queue and cancels the step's statement, which releases its locks.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self

import structlog
from psycopg2 import Error as DriverError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.database import BACKGROUND_TIMEOUT_SECONDS, Transaction
from sweep import runs
from sweep.runs import LEASE, LeaseLostError, SweepStoppedError

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5  # between two checks of the thread
BEAT_SECONDS = LEASE.total_seconds() / 5
UNSURE_SECONDS = LEASE.total_seconds() / 2
# The database ends each transaction of a sweep within this time; a longer step hangs.
LONGEST_STEP_SECONDS = BACKGROUND_TIMEOUT_SECONDS + LEASE.total_seconds()
GRACE_SECONDS = 1.5


class Heartbeat:
    """Extends the lease of one run; a context manager around its sweep.

    `open_transaction` is for the sweep's work, `open_heartbeat_transaction` for the heartbeat's,
    which must end well within the lease. `monotonic` returns seconds. `poll_seconds` is the time
    between two checks of the thread.
    """

    def __init__(
        self,
        run_id: int,
        owner: str,
        *,
        open_transaction: Transaction,
        open_heartbeat_transaction: Transaction,
        monotonic: Callable[[], float],
        should_stop: Callable[[], bool],
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._run_id, self._owner = run_id, owner
        self._open_transaction, self._open_beat = open_transaction, open_heartbeat_transaction
        self._monotonic, self._should_stop = monotonic, should_stop
        self._poll_seconds = poll_seconds
        self._beaten_at = self._worked_at = monotonic()
        self._stop_seen_at: float | None = None
        self._is_lost = self._is_released = self._is_hanging = False
        self._connection: Any = None  # the driver's, while the sweep has a transaction open
        self._over = threading.Event()
        # The thread runs in a copy of the context, which holds the app and its engine.
        run = copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._poll,), name="heartbeat", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Record before each step that the sweep is working.

        Raises SweepStoppedError if this process is stopping, and LeaseLostError if the run has
        another owner.
        """
        if self._should_stop():
            raise SweepStoppedError("this process is stopping")
        self._raise_if_ended()
        if self._monotonic() - self._beaten_at > UNSURE_SECONDS:
            self.beat()
        self._worked_at = self._monotonic()

    def beat(self, write: Callable[[Session], None] | None = None) -> None:
        """Extend the lease now; with `write`, by a statement that also stores progress.

        Raises LeaseLostError, and SQLAlchemyError if the database does not answer.
        """
        beaten_at = self._monotonic()
        self._write(write or (lambda s: runs.beat(s, self._run_id, owner=self._owner)))
        self._beaten_at = beaten_at

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction of the sweep; raises as `check` does."""
        self._raise_if_ended()
        self._worked_at = self._monotonic()
        with self._open_transaction() as session:
            self._connection = session.connection().connection.driver_connection
            try:
                yield session
            except SQLAlchemyError:
                self._raise_if_ended()  # then the thread has cancelled the statement
                raise
            finally:
                self._connection = None
        self._worked_at = self._monotonic()

    def _raise_if_ended(self) -> None:
        if self._is_released:
            raise SweepStoppedError("this process is stopping; the run is back in the queue")
        if self._is_lost:
            raise LeaseLostError(f"sweep run {self._run_id} has another owner")

    def _poll(self) -> None:
        """Extend or release the lease until the sweep ends or the run has another owner."""
        while not self._over.wait(self._poll_seconds):
            with suppress(LeaseLostError):
                self._beat_or_release()
            if self._is_lost or self._is_released:
                self._cancel_statement()
                return

    def _beat_or_release(self) -> None:
        try:
            if self._is_grace_over():
                self._release()
            elif self._is_working() and self._monotonic() - self._beaten_at >= BEAT_SECONDS:
                self.beat()
        except SQLAlchemyError as err:  # retried at the next check
            log.warning("sweep_heartbeat_failed", sweep_id=self._run_id, error=type(err).__name__)

    def _is_grace_over(self) -> bool:
        if not self._should_stop():
            return False
        if self._stop_seen_at is None:
            self._stop_seen_at = self._monotonic()
        return self._monotonic() - self._stop_seen_at >= GRACE_SECONDS

    def _is_working(self) -> bool:
        was_hanging = self._is_hanging
        self._is_hanging = self._monotonic() - self._worked_at > LONGEST_STEP_SECONDS
        if self._is_hanging and not was_hanging:
            log.error("sweep_hangs", sweep_id=self._run_id)
        return not self._is_hanging

    def _release(self) -> None:
        self._write(lambda s: runs.release(s, self._run_id, owner=self._owner))
        self._is_released = True
        log.info("sweep_released", sweep_id=self._run_id)

    def _write(self, change: Callable[[Session], None]) -> None:
        try:
            with self._open_beat() as session:
                change(session)
        except LeaseLostError:
            self._is_lost = True
            raise

    def _cancel_statement(self) -> None:
        """Cancel the current statement of the sweep; `transaction` refuses further ones."""
        connection = self._connection
        if connection is not None:
            with suppress(DriverError):
                connection.cancel()
