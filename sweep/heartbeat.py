"""The heartbeat of a running sweep: its lease is extended beside its steps, however long they take.

1. A thread with a connection of its own extends the lease every `BEAT_SECONDS`. It lives as long as
   the sweep, so that nothing is sent to the database between sweeps.
2. A sweep that hangs has no heartbeat: each transaction and each step shows that it is at work, and
   none may take longer than `LONGEST_STEP_SECONDS`.
3. A sweep that has not had a heartbeat for half the lease, because its process was frozen or the
   database away, asks before its next step whether the run is still its own. What it writes in
   batches is refused by `runs.report` in any case.
4. Where the process is asked to stop and the step does not end within `GRACE_SECONDS`, the thread
   gives the run back to the queue and cancels the step's statement, so that its locks go with it.
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

LOOK_SECONDS = 0.5  # between two looks of the thread
BEAT_SECONDS = LEASE.total_seconds() / 5
UNSURE_SECONDS = LEASE.total_seconds() / 2
# The database ends each transaction of a sweep by then; what takes longer hangs for good.
LONGEST_STEP_SECONDS = BACKGROUND_TIMEOUT_SECONDS + LEASE.total_seconds()
GRACE_SECONDS = 1.5


class Heartbeat:
    """Keeps the lease of one run while its sweep works; to be entered for the time of the sweep.

    `open_transaction` is for the sweep's work, `open_beat` for the heartbeat: it must end well
    within the lease. `monotonic` is a clock in seconds, `look_seconds` passes between two looks.
    """

    def __init__(
        self,
        run_id: int,
        owner: str,
        *,
        open_transaction: Transaction,
        open_beat: Transaction,
        monotonic: Callable[[], float],
        should_stop: Callable[[], bool],
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._run_id, self._owner = run_id, owner
        self._open_transaction, self._open_beat = open_transaction, open_beat
        self._monotonic, self._should_stop = monotonic, should_stop
        self._look_seconds = look_seconds
        self._beaten_at = self._worked_at = monotonic()
        self._stop_seen_at: float | None = None
        self._is_lost = self._is_released = self._is_hanging = False
        self._connection: Any = None  # the driver's, while the sweep has a transaction open
        self._over = threading.Event()
        # The thread works in a copy of our context: that is where the app and its engine are found.
        run = copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._keep,), name="heartbeat", daemon=True
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
        """Show that the sweep is at work, before each step.

        Raises SweepStoppedError where this process is asked to stop, LeaseLostError where the run
        is no longer ours.
        """
        if self._should_stop():
            raise SweepStoppedError("this process is stopping")
        self._refuse_if_over()
        if self._monotonic() - self._beaten_at > UNSURE_SECONDS:
            self.beat()
        self._worked_at = self._monotonic()

    def beat(self, write: Callable[[Session], None] | None = None) -> None:
        """Extend the lease now, or have `write` do so with something to report.

        Raises LeaseLostError, and SQLAlchemyError where the database does not answer.
        """
        beaten_at = self._monotonic()
        self._write(write or (lambda s: runs.beat(s, self._run_id, owner=self._owner)))
        self._beaten_at = beaten_at

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A transaction of the sweep; raises as `check` does where nothing may be written."""
        self._refuse_if_over()
        self._worked_at = self._monotonic()
        with self._open_transaction() as session:
            self._connection = session.connection().connection.driver_connection
            try:
                yield session
            except SQLAlchemyError:
                self._refuse_if_over()  # that is why the statement was cancelled
                raise
            finally:
                self._connection = None
        self._worked_at = self._monotonic()

    def _refuse_if_over(self) -> None:
        if self._is_released:
            raise SweepStoppedError("this process is stopping; the run is back in the queue")
        if self._is_lost:
            raise LeaseLostError(f"sweep run {self._run_id} has another owner")

    def _keep(self) -> None:
        """Look again and again until the sweep is over, or the run no longer ours."""
        while not self._over.wait(self._look_seconds):
            with suppress(LeaseLostError):
                self._look()
            if self._is_lost or self._is_released:
                self._cancel_statement()
                return

    def _look(self) -> None:
        try:
            if self._is_out_of_grace():
                self._release()
            elif self._is_working() and self._monotonic() - self._beaten_at >= BEAT_SECONDS:
                self.beat()
        except SQLAlchemyError as err:  # the next look tries again
            log.warning("sweep_heartbeat_failed", sweep_id=self._run_id, error=type(err).__name__)

    def _is_out_of_grace(self) -> bool:
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
        """End what the sweep's transaction is doing; a statement after it would be refused."""
        connection = self._connection
        if connection is not None:
            with suppress(DriverError):
                connection.cancel()
