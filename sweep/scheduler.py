"""The scheduler of the sweep: APScheduler, in every web process or in a process of its own."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

from auth.identity import Identity
from core import metrics
from core.database import background_transaction
from provisioning.audit import Source
from provisioning.ensure import EnsureResult
from provisioning.service import ProvisioningService
from sweep.batches import Link
from sweep.progress import SweepCounts
from sweep.runs import LeaseLostError, SweepRunningError, SweepStoppedError
from sweep.sweeper import BATCH_SIZE, Sweeper

log = structlog.get_logger(__name__)

LOOK = timedelta(seconds=1)  # an admin's request starts within a second
BEAT_TIMEOUT_SECONDS = 5.0  # well within the lease, so that there is time for another


class SweepScheduler(BackgroundScheduler):  # type: ignore[misc] # APScheduler 3 has no types
    """A scheduler with one thread: while it sweeps, no other run can be active anywhere."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Stop looking; a sweep that is on gives its run back to the queue.

        It stops after its step, or within `heartbeat.GRACE_SECONDS`. Python waits for pool threads
        at exit, so that a long step would keep the process alive.
        """
        self.stopping.set()
        self.shutdown(wait=False)


def start_scheduler(
    app: Flask,
    guarantee: ProvisioningService,
    interval: timedelta,
    *,
    is_leaving: Callable[[], bool] = lambda: False,
) -> SweepScheduler:
    """Start sweeping every `interval` and picking up queued runs, in a thread that keeps nobody.

    The first look is at once: a process may live for less than an interval. Any number of processes
    may do so: the run row in the database lets one of them through. `is_leaving` tells that the
    process has been asked to stop, before it says so by `Clock.stop`.
    """
    clock = SweepScheduler(executors={"default": ThreadPoolExecutor(1)}, timezone=UTC, daemon=True)

    def should_stop() -> bool:
        return clock.stopping.is_set() or is_leaving()

    sweeper = replace(build_sweeper(guarantee), should_stop=should_stop, interval=interval)
    _tick(clock, app, sweeper.take_over_if_due)
    clock.start()
    return clock


def _tick(clock: SweepScheduler, app: Flask, job: Callable[[], object]) -> None:
    """Call the job now and every second; what was missed while a sweep ran is made up for once."""
    clock.add_job(
        _in_app(app, job),
        "interval",
        seconds=LOOK.total_seconds(),
        next_run_time=_now(),
        coalesce=True,
        misfire_grace_time=None,
    )


def build_sweeper(
    guarantee: ProvisioningService,
    *,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[SweepCounts], None] | None = None,
) -> Sweeper:
    """A sweeper for this process, working through the same guarantee as every other door."""

    def provide(clerk_id: str) -> EnsureResult:
        return guarantee.ensure(Identity(clerk_id), source=Source("sweep"), now=_now())

    def complete(clerk_id: str) -> EnsureResult | None:
        return guarantee.refresh_from_clerk(clerk_id, source=Source("sweep"), now=_now())

    def refresh(clerk_id: str) -> EnsureResult | None:
        return guarantee.refresh(clerk_id, source=Source("sweep"), now=_now())

    def tell(link: Link, seconds: float) -> None:
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
        open_heartbeat_connection=partial(background_transaction, BEAT_TIMEOUT_SECONDS),
        ensure_user=provide,
        refresh_from_clerk=complete if guarantee.directory is not None else None,
        refresh_identity=refresh,
        max_age=guarantee.max_age,
        rules=guarantee.rules,
        monotonic=time.monotonic,
        now=_now,
        batch_size=batch_size,
        on_progress=on_progress,
        on_batch=metrics.ENSURES.labels("sweep", "created").inc,
        on_link=tell,
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _in_app(app: Flask, job: Callable[[], object]) -> Callable[[], None]:
    """A job that survives whatever happens to one of its runs: the next one starts afresh."""

    def run() -> None:
        with app.app_context():
            try:
                job()
            except (SweepRunningError, LeaseLostError, SweepStoppedError) as err:
                log.info("sweep_skipped", reason=str(err))
            except SQLAlchemyError as err:
                log.warning("sweep_skipped", reason=type(err).__name__)

    return run
