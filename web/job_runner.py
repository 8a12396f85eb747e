"""Running admins' jobs: within the request while it has time, otherwise in a thread beside it.

Each process that serves requests, and `flask scheduler`, has one such thread. It sleeps until a
request wakes it that has queued a job, or that shows the page of one which is not over. Where the
scheduler is on, it also looks by itself, for the jobs of processes that have died.
"""

import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog
from flask import Flask
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from core import deadlines
from core.database import Transaction, background_transaction, transaction
from models import AdminJob
from provisioning import jobs
from provisioning.imports import UnreadableListError
from provisioning.jobs import LeaseLostError, NotNowError, Step
from provisioning.retry import is_unavailable, retry_transient

log = structlog.get_logger(__name__)

POLL_SECONDS = 5.0  # with the lease well within the thirty seconds of a takeover
PAUSE_SECONDS = 1.0  # until a job is tried again for which there was no database
TIDY_SECONDS = 3_600.0
JOIN_SECONDS = 3.0  # a batch that is on when the process stops takes less

BATCH_SECONDS = 5.0  # of a batch in the background, far below the lease
PATIENCE_SECONDS = 3.0  # with an error that can pass, until the batch is split
# SQLSTATE (PostgreSQL, appendix A) of what one row can cause: its data, a constraint, a trigger;
# and of rows that another program holds. Anything else is about the server or about ourselves.
ITEM_CLASSES = ("22", "23", "P0")
ITEM_STATES = ("40P01", "55P03", "57014")
PARTS = 4  # into which a batch that fails is split
SPARE_SECONDS = 0.5  # of a request, for what comes after the job
SHORTEST_TRY_SECONDS = 0.2


class Work(Protocol):
    """What a job does, a batch at a time; each method runs in the transaction that holds it."""

    batch_size: int
    action: str  # what the log calls it

    def step(self, session: Session, job: AdminJob, size: int) -> Step:
        """Do the next `size` items and note them in the job."""

    def skip(self, job: AdminJob) -> Step:
        """Leave out the next item, which the database would not take by itself."""

    def close(self, session: Session, job: AdminJob) -> None:
        """Write down what the whole job has come to."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long jobs may be worked at: in which transactions, and how long after a failure."""

    transaction: Transaction
    patience: Callable[[], float]
    is_over: Callable[[], bool]


class OutOfTimeError(Exception):
    """The request has no time for another batch, or the process is stopping."""


@dataclass(slots=True)
class JobRunner:
    """Runs jobs for one process; shared by its threads.

    `works` makes the work of a job from its row, by its kind; it raises UnreadableListError.
    `on_change` is called after each commit with the action and the Clerk ids of users whose context
    has changed.
    """

    works: Mapping[str, Callable[[AdminJob], Work]]
    on_change: Callable[[str, Iterable[str]], None]
    clock: Callable[[], float] = time.monotonic
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _tidy_at: float = 0.0
    _retry_until: float = 0.0

    def start(self, app: Flask, *, polls: bool) -> None:
        """Start the thread; `polls` lets it look by itself, for jobs of other processes."""

        def run() -> None:
            while not self._stopping.is_set():
                self._woken.clear()
                with app.app_context():
                    self.run_pending()
                is_trying = self.clock() < self._retry_until
                self._woken.wait(PAUSE_SECONDS if is_trying else POLL_SECONDS if polls else None)

        self._thread = threading.Thread(target=run, name="admin-jobs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the batch that is on; its job goes back to the queue."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def wake(self) -> None:
        """Have the thread look for jobs at once; nothing happens where none was started."""
        self._woken.set()

    def run_now(self, job_id: uuid.UUID) -> None:
        """Do as much of the job as the request has time for, and leave the rest to the thread."""
        bounds = Bounds(_within_request, _time_left, lambda: not _time_left())
        try:
            self._run_next(bounds, job_id)
        except (SQLAlchemyError, LeaseLostError) as err:
            log.info("job_left_to_background", job_id=str(job_id), reason=type(err).__name__)
            self._keep_trying()
        self.wake()

    def run_pending(self) -> None:
        """Run all jobs that wait, and those whose process has died."""
        bounds = Bounds(
            lambda: background_transaction(BATCH_SECONDS),
            lambda: PATIENCE_SECONDS,
            self._stopping.is_set,
        )
        try:
            self._tidy_up()
            while not self._stopping.is_set() and self._run_next(bounds):
                pass
        except Exception as err:  # whatever is wrong with one job, the thread has to go on
            is_ours = not isinstance(err, SQLAlchemyError | LeaseLostError)
            log.warning("job_put_off", reason=type(err).__name__, exc_info=err if is_ours else None)
            self._keep_trying()

    def _run_next(self, bounds: Bounds, job_id: uuid.UUID | None = None) -> bool:
        """Claim a job, or the one of that id, and run it; returns whether there was one."""
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        try:
            with bounds.transaction() as session:
                job = jobs.claim(session, owner=owner, job_id=job_id)
        except IntegrityError:
            return False  # another process is setting goals
        if job is None:
            return False
        log.info("job_started", job_id=str(job.id), kind=job.kind, dry_run=job.dry_run)
        self._run(job, _HeldJob(job.id, owner, job.position, bounds))
        return True

    def _run(self, job: AdminJob, held: "_HeldJob") -> None:
        work: Work | None = None
        try:
            work = self.works[job.kind](job)
            self._work_through(held, work)
        except UnreadableListError as err:
            held.fail(str(err))
        except LeaseLostError:
            log.warning("job_lost", job_id=str(job.id))
        except (OutOfTimeError, NotNowError):
            held.release()
        except Exception as err:
            held.give_up(err, work)
            raise
        else:
            action = "preview" if job.dry_run else work.action
            log.info("admin_action", action=action, entry="admin", actor_id=job.requested_by)
            log.info("job_finished", job_id=str(job.id))

    def _work_through(self, held: "_HeldJob", work: Work) -> None:
        """Do batch after batch; one that fails is split until the item to blame is alone."""
        size, suspects, is_last = work.batch_size, 0, False
        while not is_last:
            try:
                step = held.batch(work, size)
                suspects = max(0, suspects - size)
            except SQLAlchemyError as err:
                if not _is_about_an_item(err):
                    raise
                log.warning("job_batch_split", size=size, reason=type(err).__name__)
                held.beat()
                if size > 1:
                    suspects, size = size, max(1, size // PARTS)
                    continue
                step, suspects = held.batch(work, 0), 0
            size = min(size, suspects) or work.batch_size
            self.on_change(work.action, step.clerk_ids)
            is_last = step.is_last

    def _keep_trying(self) -> None:
        """Look again until the lease of a job has ended that could not be released."""
        self._retry_until = self.clock() + 2 * jobs.LEASE.total_seconds()

    def _tidy_up(self) -> None:
        if self.clock() >= self._tidy_at:
            with background_transaction(BATCH_SECONDS) as session:
                jobs.delete_old(session, datetime.now(UTC))
            self._tidy_at = self.clock() + TIDY_SECONDS


@dataclass(slots=True)
class _HeldJob:
    """A job that this process has claimed, and how far it has come by what was committed."""

    job_id: uuid.UUID
    owner: str
    position: int
    bounds: Bounds

    def batch(self, work: Work, size: int) -> Step:
        """Do a batch in one transaction, again while its error can pass; size 0 skips an item.

        Raises OutOfTimeError, LeaseLostError, and the last error of the database.
        """
        if self.bounds.is_over():
            raise OutOfTimeError
        tried: list[Step] = []
        is_whole = size == work.batch_size
        try:
            return retry_transient(
                lambda: self._attempt(work, size, tried),
                seconds_left=self.bounds.patience if is_whole else lambda: 0.0,
                on_retry=lambda reason: log.warning("job_batch_retried", reason=reason),
            )
        except LeaseLostError:
            if tried and tried[-1].is_last:
                return tried[-1]  # its commit has closed the job, although the answer was lost
            raise

    def _attempt(self, work: Work, size: int, tried: list[Step]) -> Step:
        with self.bounds.transaction() as session:
            job = jobs.hold(session, self.job_id, owner=self.owner)
            if tried and job.position != self.position:
                step = tried[-1]  # its commit has arrived, although the answer was lost
            else:
                step = work.step(session, job, size) if size else work.skip(job)
                tried.append(step)
                if step.is_last:
                    work.close(session, job)
                    jobs.finish(job)
            position = job.position
        self.position = position
        return step

    def beat(self) -> None:
        """Renew the lease between batches that fail."""
        with self.bounds.transaction() as session:
            jobs.hold(session, self.job_id, owner=self.owner)

    def release(self) -> None:
        """Give the job back to the queue."""
        with self.bounds.transaction() as session:
            jobs.release(session, self.job_id, owner=self.owner)

    def fail(self, error: str, work: Work | None = None) -> None:
        """Close the job with an error."""
        with self.bounds.transaction() as session:
            job = jobs.hold(session, self.job_id, owner=self.owner)
            if work is not None:
                work.close(session, job)
            jobs.finish(job, error=error)
        log.warning("job_failed", job_id=str(self.job_id), reason=error if work else "unreadable")

    def give_up(self, err: Exception, work: Work | None) -> None:
        """Release the job where the database is to blame; otherwise trying again would not help."""
        with suppress(SQLAlchemyError, LeaseLostError):
            if is_unavailable(err) or isinstance(err, OperationalError):
                self.release()
            else:
                self.fail(type(err).__name__, work)


def _is_about_an_item(err: SQLAlchemyError) -> bool:
    """Whether one item of a batch may be to blame, and the others can be done without it."""
    sqlstate = getattr(getattr(err, "orig", None), "pgcode", None) or ""
    return sqlstate[:2] in ITEM_CLASSES or sqlstate in ITEM_STATES


def _within_request() -> AbstractContextManager[Session]:
    return transaction(max(SHORTEST_TRY_SECONDS, _time_left()))


def _time_left() -> float:
    """How many seconds of the request a job may take; a caller without deadline has a second."""
    left = deadlines.seconds_left()
    return 1.0 if left is None else max(0.0, left - SPARE_SECONDS)
