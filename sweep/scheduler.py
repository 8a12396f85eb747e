"""Run the sweep on a schedule (APScheduler), in every web process or in a process of its own.

While the installation is in use, the database is asked every second for a run that is due, queued
or abandoned. When it becomes idle (`core/activity.py`), there is one more sweep. Then a serverless
database can suspend. Nothing is sent to it until one of these events:

1. A use of the installation, or a sweep that an admin queues, in this or another process.
2. A failed attempt or an incomplete identity is due, or the longest time without a sweep is over.
3. A run is queued or running when the installation becomes idle: the process that has it may die.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import inf

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import SQLAlchemyError

from core.activity import Activity
from sweep.runs import RunLeaseLostError, SweepRunningError, SweepStoppedError
from sweep.sweeper import Sweeper

log = structlog.get_logger(__name__)

POLLING_JOB = "poll"
POLL_INTERVAL = timedelta(seconds=1)  # a run queued by an admin starts within a second
SETTLING_SECONDS = 15.0  # for the last sweep of another process when the installation becomes idle


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
    """A daemon thread that polls every second, each time within a new `app_context`.

    While it sweeps, this process starts no other run. Any number of processes may poll, because the
    run row in the database admits one at a time. `is_process_stopping` returns true from the stop
    signal on, before `stop` is called.
    """

    def __init__(
        self,
        poller: Poller,
        app_context: Callable[[], AbstractContextManager[object]],
        *,
        is_process_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(executors={"default": ThreadPoolExecutor(1)}, timezone=UTC, daemon=True)
        self._poller, self._app_context = poller, app_context
        self._stopping = threading.Event()

        def should_stop() -> bool:
            return self._stopping.is_set() or is_process_stopping()

        if poller.sweeper is not None:
            poller.sweeper = replace(poller.sweeper, should_stop=should_stop)
        poller.activity.wake_scheduler = self.poll_now
        self.add_job(
            self._poll,
            "interval",
            id=POLLING_JOB,
            seconds=POLL_INTERVAL.total_seconds(),
            next_run_time=datetime.now(UTC),  # at once: a process may live for less than a second
            coalesce=True,  # calls missed during a sweep are made up for once
            misfire_grace_time=None,
        )

    def poll_now(self) -> None:
        """Poll at once, or as soon as a sweep of this process has ended."""
        with suppress(JobLookupError):  # it is stopping
            self.modify_job(POLLING_JOB, next_run_time=datetime.now(UTC))

    def stop(self) -> None:
        """Stop polling; a running sweep returns its run to the queue.

        It stops after its current step, or within `heartbeat.GRACE_SECONDS`. Python waits for pool
        threads at exit: without the limit a long step would keep the process alive.
        """
        self._stopping.set()
        self.shutdown(wait=False)

    def _poll(self) -> None:
        """Poll once; an expected error is logged and ends this poll only."""
        with self._app_context():
            try:
                self._poller.poll()
            except (SweepRunningError, RunLeaseLostError, SweepStoppedError) as err:
                log.info("sweep_skipped", reason=str(err))
            except SQLAlchemyError as err:
                log.warning("sweep_skipped", reason=type(err).__name__)
