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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any, Self

import structlog
from psycopg2 import Error as DriverError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.database import BACKGROUND_TIMEOUT_SECONDS, background_transaction
from sweep import runs
from sweep.runs import LEASE, RunLeaseLostError, SweepStoppedError

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.5  # between two checks of the thread
BEAT_SECONDS = LEASE.total_seconds() / 5
BEAT_TIMEOUT_SECONDS = LEASE.total_seconds() / 3  # so that a second attempt is possible
UNSURE_SECONDS = LEASE.total_seconds() / 2
# The database ends each transaction of a sweep within this time; a longer step hangs.
LONGEST_STEP_SECONDS = BACKGROUND_TIMEOUT_SECONDS + LEASE.total_seconds()
GRACE_SECONDS = 1.5


class Heartbeat:
    """Extends the lease of one run; a context manager around its sweep.

    `monotonic` returns seconds. `poll_seconds` is the time between two checks of the thread.
    """

    def __init__(
        self,
        run_id: int,
        owner: str,
        *,
        should_stop: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._run_id, self._owner = run_id, owner
        self._should_stop, self._monotonic = should_stop, monotonic
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

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Record before each step that the sweep is working.

        Raises SweepStoppedError if this process is stopping, and RunLeaseLostError if the run has
        another owner.
        """
        if self._should_stop():
            raise SweepStoppedError("this process is stopping")
        self._raise_if_ended()
        if self._monotonic() - self._beaten_at > UNSURE_SECONDS:
            self.beat({})
        self._worked_at = self._monotonic()

    def beat(self, counts: dict[str, int]) -> None:
        """Extend the lease and store these counts; raises RunLeaseLostError and SQLAlchemyError."""
        beaten_at = self._monotonic()
        with background_transaction(BEAT_TIMEOUT_SECONDS) as session:
            self.report(session, counts)
        self._beaten_at = beaten_at

    def report(self, session: Session, counts: dict[str, int]) -> None:
        """As `beat`, within a transaction of the sweep."""
        runs.report(session, self._run_id, owner=self._owner, counts=counts)

    def release(self, counts: dict[str, int]) -> None:
        """Return the run to the queue with these counts; raises as `beat` does."""
        with background_transaction(BEAT_TIMEOUT_SECONDS) as session:
            runs.release(session, self._run_id, owner=self._owner, counts=counts)
        self._is_released = True
        log.info("sweep_released", sweep_id=self._run_id)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a transaction of the sweep; raises as `check` does."""
        self._raise_if_ended()
        self._worked_at = self._monotonic()
        with background_transaction() as session:
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
            raise RunLeaseLostError(f"sweep run {self._run_id} has another owner")

    def _poll(self) -> None:
        """Extend or release the lease until the sweep ends or the run has another owner."""
        while not self._over.wait(self._poll_seconds):
            try:
                self._beat_or_release()
            except RunLeaseLostError:
                self._is_lost = True
            except SQLAlchemyError as err:  # retried at the next check
                error = type(err).__name__
                log.warning("sweep_heartbeat_failed", sweep_id=self._run_id, error=error)
            if self._is_lost or self._is_released:
                self._cancel_statement()
                return

    def _beat_or_release(self) -> None:
        now = self._monotonic()
        if self._should_stop():
            self._stop_seen_at = now if self._stop_seen_at is None else self._stop_seen_at
            if now - self._stop_seen_at >= GRACE_SECONDS:
                self.release({})
                return
        was_hanging = self._is_hanging
        self._is_hanging = now - self._worked_at > LONGEST_STEP_SECONDS
        if self._is_hanging and not was_hanging:
            log.error("sweep_hangs", sweep_id=self._run_id)
        if not self._is_hanging and now - self._beaten_at >= BEAT_SECONDS:
            self.beat({})

    def _cancel_statement(self) -> None:
        """Cancel the current statement of the sweep; `transaction` refuses further ones."""
        connection = self._connection
        if connection is not None:
            with suppress(DriverError):
                connection.cancel()
