"""The back door: APScheduler as the clock of the sweep, in every web process or alone."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask
from sqlalchemy.exc import SQLAlchemyError

import metrics
from extensions import background_transaction
from guarantee import Guarantee
from provisioning.audit import Entry
from provisioning.counts import Counts
from provisioning.ensure import Ensured
from provisioning.identity import Identity
from provisioning.runs import LeaseLostError, SweepRunningError
from provisioning.sweep import BATCH_SIZE, Sweeper, SweepStoppedError
from provisioning.together import Link

log = structlog.get_logger(__name__)

PICK_UP = timedelta(seconds=1)  # an admin's request starts within a second


class Clock(BackgroundScheduler):  # type: ignore[misc] # APScheduler 3 has no types
    """A scheduler with one thread: while it sweeps, no other run can be active anywhere."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.stopping = threading.Event()

    def stop(self) -> None:
        """Stop ticking, and a sweep that is on stops after the person it is at.

        Python waits for pool threads at exit, so that a long sweep would keep its process alive.
        """
        self.stopping.set()
        self.shutdown(wait=False)


def start_clock(app: Flask, guarantee: Guarantee, interval: timedelta) -> Clock:
    """Start sweeping every `interval` and picking up queued runs, in a thread that keeps nobody.

    Any number of processes may do so: the run row in the database lets one of them through.
    """
    clock = Clock(executors={"default": ThreadPoolExecutor(1)}, timezone=UTC, daemon=True)
    sweeper = replace(build_sweeper(guarantee), should_stop=clock.stopping.is_set)
    _tick(clock, app, interval, lambda: sweeper.start_if_due(interval))
    _tick(clock, app, PICK_UP, sweeper.pick_up)
    clock.start()
    return clock


def _tick(clock: Clock, app: Flask, interval: timedelta, job: Callable[[], object]) -> None:
    """Call the job at every interval; what was missed while another one ran is made up for once."""
    clock.add_job(
        _in_app(app, job),
        "interval",
        seconds=interval.total_seconds(),
        coalesce=True,
        misfire_grace_time=None,
    )


def build_sweeper(
    guarantee: Guarantee,
    *,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[Counts], None] | None = None,
) -> Sweeper:
    """A sweeper for this process, working through the same guarantee as every other door."""

    def provide(clerk_id: str) -> Ensured:
        return guarantee.ensure(Identity(clerk_id), entry=Entry("sweep"), now=_now())

    def complete(clerk_id: str) -> Ensured | None:
        return guarantee.complete(clerk_id, entry=Entry("sweep"), now=_now())

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
        provide=provide,
        complete=complete,
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
