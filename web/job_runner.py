"""Running admins' jobs: within the request while it has time, then in a background thread.

Each process that serves requests, and `flask scheduler`, has one such thread. It sleeps until a
request wakes it that has queued a job, or that shows the page of an unfinished job. Where the
scheduler is on, it also polls for jobs of processes that have died, unless the installation is
idle (`core/activity.py`). Each batch is a use of the installation.
"""

import os
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import structlog
from flask import Flask
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from core import deadlines
from core.activity import Activity
from core.database import Transaction, background_transaction, transaction
from models import AdminJob
from provisioning import deleted_profiles, jobs
from provisioning.imports import UnreadableListError
from provisioning.jobs import BatchResult, JobLeaseLostError, JobMustWaitError
from provisioning.retry import is_unavailable, retry_transient

log = structlog.get_logger(__name__)

POLL_SECONDS = 5.0  # with the lease, well within the thirty seconds of a takeover
PAUSE_SECONDS = 1.0  # before a job is retried after an outage of the database
CLEANUP_SECONDS = 3_600.0
JOIN_SECONDS = 3.0  # a running batch ends sooner when the process stops

BATCH_SECONDS = 5.0  # of a batch in the background, far below the lease
RETRY_SECONDS = 3.0  # of a batch with a transient error, before it is split
# SQLSTATE (PostgreSQL, appendix A) of errors that one item can cause: its data, a constraint, a
# trigger, or a lock of another program. Other errors concern the server or this program.
ITEM_SQLSTATE_CLASSES = ("22", "23", "P0")
ITEM_SQLSTATES = ("40P01", "55P03", "57014")
SPLIT_FACTOR = 4  # a failing batch is split into so many parts
SPARE_SECONDS = 0.5  # of a request, for the work after the job
MIN_TRY_SECONDS = 0.2


class Work(Protocol):
    """The work of a job in batches; each method runs in the transaction that has locked the job."""

    batch_size: int
    action: str  # name in the log

    def run_batch(self, session: Session, job: AdminJob, size: int) -> BatchResult:
        """Do the next `size` items and record them in the job."""

    def skip(self, job: AdminJob) -> BatchResult:
        """Skip the next item, which the database has rejected on its own."""

    def close(self, session: Session, job: AdminJob) -> None:
        """Record the result of the whole job."""


@dataclass(frozen=True, slots=True)
class ExecutionLimits:
    """The transaction for a batch, how long to retry it, and when to stop."""

    transaction: Transaction
    retry_seconds: Callable[[], float]
    is_over: Callable[[], bool]


class OutOfTimeError(Exception):
    """The request has no time for another batch, or the process is stopping."""


@dataclass(slots=True)
class JobRunner:
    """Runs jobs for one process; shared by its threads.

    `work_by_kind` maps each kind of job to a function that returns the job's work, or raises
    UnreadableListError. `on_change` is called after each commit with the action and the Clerk ids
    of users whose context has changed.
    """

    work_by_kind: Mapping[str, Callable[[AdminJob], Work]]
    on_change: Callable[[str, Iterable[str]], None]
    activity: Activity = field(default_factory=Activity)
    clock: Callable[[], float] = time.monotonic
    _woken: threading.Event = field(default_factory=threading.Event)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _next_cleanup: float = 0.0
    _poll_quickly_until: float = 0.0

    def start(self, app: Flask, *, polls: bool) -> None:
        """Start the thread; with `polls` it also polls for jobs of other processes."""

        def run() -> None:
            must_look = True
            while not self._stopping.is_set():
                self._woken.clear()
                if must_look:
                    with app.app_context():
                        self.run_pending()
                is_retrying = self.clock() < self._poll_quickly_until
                pause = PAUSE_SECONDS if is_retrying else POLL_SECONDS if polls else None
                must_look = self._woken.wait(pause) or is_retrying or not self.activity.is_idle

        self._thread = threading.Thread(target=run, name="admin-jobs", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop after the running batch; its job goes back to the queue."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def wake(self) -> None:
        """Make the thread look for jobs at once; no effect without a thread."""
        self._woken.set()

    def run_now(self, job_id: uuid.UUID) -> None:
        """Run the job as long as the request has time, and leave the rest to the thread."""
        limits = ExecutionLimits(
            lambda: transaction(max(MIN_TRY_SECONDS, _request_seconds_left())),
            _request_seconds_left,
            lambda: not _request_seconds_left(),
        )
        try:
            self._run_next(limits, job_id)
        except (SQLAlchemyError, JobLeaseLostError) as err:
            log.info("job_left_to_background", job_id=str(job_id), reason=type(err).__name__)
            self._poll_quickly()
        self.wake()

    def run_pending(self) -> None:
        """Run all queued jobs, and those whose process has died."""
        limits = ExecutionLimits(
            lambda: background_transaction(BATCH_SECONDS),
            lambda: RETRY_SECONDS,
            self._stopping.is_set,
        )
        try:
            if self.clock() >= self._next_cleanup:
                with background_transaction(BATCH_SECONDS) as session:
                    jobs.delete_old(session, datetime.now(UTC))
                    deleted_profiles.delete_old(session, datetime.now(UTC))
                self._next_cleanup = self.clock() + CLEANUP_SECONDS
            while not self._stopping.is_set() and self._run_next(limits):
                pass
        except Exception as err:  # an error of one job must not end the thread
            is_unexpected = not isinstance(err, SQLAlchemyError | JobLeaseLostError)
            log.warning(
                "job_put_off", reason=type(err).__name__, exc_info=err if is_unexpected else None
            )
            self._poll_quickly()

    def _run_next(self, limits: ExecutionLimits, job_id: uuid.UUID | None = None) -> bool:
        """Claim the next job, or the one of that id, and run it; return whether there was one."""
        owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        try:
            with limits.transaction() as session:
                job = jobs.claim(session, owner=owner, job_id=job_id)
        except IntegrityError:
            return False  # another process is setting goals
        if job is None:
            return False
        log.info("job_started", job_id=str(job.id), kind=job.kind, dry_run=job.dry_run)
        self._run(job, _ClaimedJob(job.id, owner, job.position, limits))
        return True

    def _run(self, job: AdminJob, held: "_ClaimedJob") -> None:
        work: Work | None = None
        try:
            work = self.work_by_kind[job.kind](job)
            self._run_batches(held, work)
        except UnreadableListError as err:
            held.fail(str(err))
        except JobLeaseLostError:
            log.warning("job_lost", job_id=str(job.id))
        except (OutOfTimeError, JobMustWaitError):
            held.release()
        except Exception as err:
            with suppress(SQLAlchemyError, JobLeaseLostError):
                if is_unavailable(err) or isinstance(err, OperationalError):
                    held.release()
                else:
                    held.fail(type(err).__name__, work)
            raise
        else:
            action = "preview" if job.dry_run else work.action
            log.info("admin_action", action=action, entry="admin", actor_id=job.requested_by)
            log.info("job_finished", job_id=str(job.id))

    def _run_batches(self, held: "_ClaimedJob", work: Work) -> None:
        """Run all batches; split a failing one until its failing item is alone and skipped."""
        size, items_in_failed_batch, is_last = work.batch_size, 0, False
        while not is_last:
            try:
                result = held.run_batch(work, size)
                items_in_failed_batch = max(0, items_in_failed_batch - size)
            except SQLAlchemyError as err:
                sqlstate = getattr(getattr(err, "orig", None), "pgcode", None) or ""
                if sqlstate[:2] not in ITEM_SQLSTATE_CLASSES and sqlstate not in ITEM_SQLSTATES:
                    raise
                log.warning("job_batch_split", size=size, reason=type(err).__name__)
                with held.limits.transaction() as session:  # extends the lease
                    jobs.lock_and_extend(session, held.job_id, owner=held.owner)
                if size > 1:
                    items_in_failed_batch, size = size, max(1, size // SPLIT_FACTOR)
                    continue
                result, items_in_failed_batch = held.run_batch(work, 0), 0
            size = min(size, items_in_failed_batch) or work.batch_size
            self.on_change(work.action, result.clerk_ids)
            self.activity.note_use()
            is_last = result.is_last

    def _poll_quickly(self) -> None:
        """Poll every second until the lease of a job that could not be released has expired."""
        self._poll_quickly_until = self.clock() + 2 * jobs.LEASE.total_seconds()


@dataclass(slots=True)
class _ClaimedJob:
    """A job that this process has claimed; `position` is the last committed one."""

    job_id: uuid.UUID
    owner: str
    position: int
    limits: ExecutionLimits

    def run_batch(self, work: Work, size: int) -> BatchResult:
        """Run a batch in one transaction, retried on transient errors; size 0 skips an item.

        Raises OutOfTimeError, JobLeaseLostError, and the last error of the database.
        """
        if self.limits.is_over():
            raise OutOfTimeError
        results: list[BatchResult] = []
        is_whole = size == work.batch_size
        try:
            return retry_transient(
                lambda: self._attempt(work, size, results),
                seconds_left=self.limits.retry_seconds if is_whole else lambda: 0.0,
                on_retry=lambda reason: log.warning("job_batch_retried", reason=reason),
            )
        except JobLeaseLostError:
            if results and results[-1].is_last:
                return results[-1]  # its commit has closed the job, although its answer was lost
            raise

    def _attempt(self, work: Work, size: int, results: list[BatchResult]) -> BatchResult:
        with self.limits.transaction() as session:
            job = jobs.lock_and_extend(session, self.job_id, owner=self.owner)
            if results and job.position != self.position:
                result = results[-1]  # its commit has succeeded, although its answer was lost
            else:
                result = work.run_batch(session, job, size) if size else work.skip(job)
                results.append(result)
                if result.is_last:
                    work.close(session, job)
                    jobs.finish(job)
            position = job.position
        self.position = position
        return result

    def release(self) -> None:
        """Put the job back into the queue."""
        with self.limits.transaction() as session:
            jobs.release(session, self.job_id, owner=self.owner)

    def fail(self, error: str, work: Work | None = None) -> None:
        """Close the job with an error."""
        with self.limits.transaction() as session:
            job = jobs.lock_and_extend(session, self.job_id, owner=self.owner)
            if work is not None:
                work.close(session, job)
            jobs.finish(job, error=error)
        log.warning("job_failed", job_id=str(self.job_id), reason=error if work else "unreadable")


def _request_seconds_left() -> float:
    """Return how many seconds of the request a job may take; one second without a deadline."""
    left = deadlines.seconds_left()
    return 1.0 if left is None else max(0.0, left - SPARE_SECONDS)
