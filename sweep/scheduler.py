"""Run the sweep on a schedule (APScheduler), in every web process or in a process of its own.

While the installation is in use, the database is asked every second for a run that is due, queued
or abandoned. When it becomes idle (`core/activity.py`), there is one more sweep. Then a serverless
database can suspend. Nothing is sent to it until one of these events:

1. A use of the installation, or a sweep that an admin queues, in this or another process.
2. A failed attempt or an incomplete identity is due, or the longest time without a sweep is over.
3. A run is queued or running when the installation becomes idle: the process that has it may die.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import SQLAlchemyError

from auth.identity import Identity
from core import metrics
from core.activity import Activity
from core.database import background_transaction
from provisioning.audit import Source
from provisioning.ensure import EnsureResult
from provisioning.service import ProvisioningService
from sweep.batches import Link
from sweep.executor import SweepCounts
from sweep.runs import LeaseLostError, SweepRunningError, SweepStoppedError
from sweep.sweeper import BATCH_SIZE, Sweeper

log = structlog.get_logger(__name__)

POLLING_JOB = "poll"
POLL_INTERVAL = timedelta(seconds=1)  # a run queued by an admin starts within a second
SETTLING_SECONDS = 15.0  # for the last sweep of another process when the installation becomes idle
HEARTBEAT_TIMEOUT_SECONDS = 5.0  # a third of the lease, so that a second attempt is possible
RETENTION_SOURCE = Source("sweep", reason="retention")  # of erasures


@dataclass(slots=True)
class Poller:
    """Looks for sweeps to run; `poll` is called every second, in an app context.

    `sweeper` is None in a process that leaves sweeps to others. While the installation is idle, the
    time between two sweeps is at most `idle_interval`. `on_idle` runs once after the last sweep of
    any process before the idle time.
    """

    sweeper: Sweeper | None
    activity: Activity
    idle_interval: timedelta
    on_idle: Callable[[], None] = lambda: None
    monotonic: Callable[[], float] = time.monotonic
    _has_polled_idle: bool = field(default=False, init=False)
    _has_settled: bool = field(default=False, init=False)
    _next_poll_at: float = field(default=-inf, init=False)

    def poll(self) -> None:
        """Run a sweep that is due; sends nothing while an idle installation needs none."""
        self.activity.exchange()
        if not self.activity.is_idle:
            self._has_polled_idle, self._has_settled, self._next_poll_at = False, False, -inf
            if self.sweeper is not None:
                self.sweeper.run_if_due()
            return
        if self.sweeper is not None and self.monotonic() >= self._next_poll_at:
            self._poll_idle(self.sweeper)
        idle_seconds = self.activity.idle_seconds
        settled_after = idle_seconds + min(SETTLING_SECONDS, idle_seconds / 4)
        if not self._has_settled and self.activity.unused_seconds >= settled_after:
            self._has_settled = True
            self.on_idle()

    def _poll_idle(self, sweeper: Sweeper) -> None:
        """Run a sweep that is due, and find out when the next one is needed."""
        unused = timedelta(seconds=self.activity.idle_seconds)
        # At the first poll of an idle time, a sweep is due unless one has started since the last
        # use.
        sweeper.run_if_due(self.idle_interval if self._has_polled_idle else unused)
        self._has_polled_idle = True
        pause = sweeper.time_until_needed(self.idle_interval)
        self._next_poll_at = self.monotonic() + pause.total_seconds()


class SweepScheduler(BackgroundScheduler):  # type: ignore[misc] # APScheduler 3 has no types
    """Scheduler with one thread: while it sweeps, this process starts no other run."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.stopping = threading.Event()

    def poll_now(self) -> None:
        """Poll at once, or as soon as a sweep of this process has ended."""
        with suppress(JobLookupError):  # it is stopping
            self.modify_job(POLLING_JOB, next_run_time=_now())

    def stop(self) -> None:
        """Stop polling; a running sweep returns its run to the queue.

        It stops after its current step, or within `heartbeat.GRACE_SECONDS`. Python waits for pool
        threads at exit: without the limit a long step would keep the process alive.
        """
        self.stopping.set()
        self.shutdown(wait=False)


def start_scheduler(
    poller: Poller,
    app_context: Callable[[], AbstractContextManager[object]],
    *,
    is_process_stopping: Callable[[], bool] = lambda: False,
) -> SweepScheduler:
    """Start a daemon thread that polls every second, each time within a new `app_context`.

    The first poll is immediate: a process may live for less than an interval. Any number of
    processes may do so, because the run row in the database admits one at a time.
    `is_process_stopping` returns true from the stop signal on, before `SweepScheduler.stop` is
    called.
    """
    scheduler = SweepScheduler(
        executors={"default": ThreadPoolExecutor(1)}, timezone=UTC, daemon=True
    )

    def should_stop() -> bool:
        return scheduler.stopping.is_set() or is_process_stopping()

    if poller.sweeper is not None:
        poller.sweeper = replace(poller.sweeper, should_stop=should_stop)
    scheduler.add_job(
        partial(_poll, poller, app_context),
        "interval",
        id=POLLING_JOB,
        seconds=POLL_INTERVAL.total_seconds(),
        next_run_time=_now(),
        coalesce=True,  # calls missed during a sweep are made up for once
        misfire_grace_time=None,
    )
    scheduler.start()
    poller.activity.wake_scheduler = scheduler.poll_now
    return scheduler


def _poll(poller: Poller, app_context: Callable[[], AbstractContextManager[object]]) -> None:
    """Poll once; an expected error is logged and ends this poll only."""
    with app_context():
        try:
            poller.poll()
        except (SweepRunningError, LeaseLostError, SweepStoppedError) as err:
            log.info("sweep_skipped", reason=str(err))
        except SQLAlchemyError as err:
            log.warning("sweep_skipped", reason=type(err).__name__)


def _now() -> datetime:
    return datetime.now(UTC)


def build_sweeper(
    provisioning: ProvisioningService,
    *,
    interval: timedelta = timedelta(minutes=1),
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[SweepCounts], None] | None = None,
    now: Callable[[], datetime] = _now,
) -> Sweeper:
    """Build the sweeper of this process; it ensures users through the provisioning service."""

    def ensure_user(clerk_id: str) -> EnsureResult:
        return provisioning.ensure(Identity(clerk_id), source=Source("sweep"), now=now())

    def complete_from_clerk(clerk_id: str) -> EnsureResult | None:
        return provisioning.complete_from_clerk(clerk_id, source=Source("sweep"), now=now())

    def refresh_old_identity(clerk_id: str) -> EnsureResult | None:
        return provisioning.complete_from_clerk(
            clerk_id, source=Source("sweep"), now=now(), is_refresh=True
        )

    def erase_account(user_id: int) -> None:
        provisioning.erase_account(user_id, source=RETENTION_SOURCE, now=now())

    def record_link(link: Link, seconds: float) -> None:
        metrics.ENSURES.labels("sweep", "linked").inc()
        log.info(
            "mentorado_linked",
            user_id=link.user_id,
            mentorado_id=link.mentorado_id,
            entry="sweep",
            duration_ms=round(seconds * 1000, 1),
        )

    return Sweeper(
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        transaction=background_transaction,
        open_heartbeat_transaction=partial(background_transaction, HEARTBEAT_TIMEOUT_SECONDS),
        ensure_user=ensure_user,
        complete_from_clerk=complete_from_clerk if provisioning.directory is not None else None,
        refresh_old_identity=refresh_old_identity,
        max_age=provisioning.max_age,
        erase_account=erase_account,
        retention=provisioning.retention,
        rules=provisioning.rules,
        monotonic=time.monotonic,
        now=now,
        interval=interval,
        batch_size=batch_size,
        on_progress=on_progress,
        on_batch=metrics.ENSURES.labels("sweep", "created").inc,
        on_link=record_link,
    )
