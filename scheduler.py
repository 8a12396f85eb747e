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

from extensions import background_transaction
from guarantee import Guarantee
from provisioning.audit import Entry
from provisioning.ensure import Ensured
from provisioning.identity import Identity
from provisioning.runs import LeaseLostError, SweepRunningError
from provisioning.sweep import BATCH_SIZE, Counts, Sweeper, SweepStoppedError

log = structlog.get_logger(__name__)

PICK_UP_SECONDS = 1  # an admin's request starts within a second


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
    clock.add_job(
        _in_app(app, lambda: sweeper.start_if_due(interval)),
        "interval",
        seconds=interval.total_seconds(),
        coalesce=True,
        misfire_grace_time=None,
    )
    clock.add_job(
        _in_app(app, sweeper.pick_up),
        "interval",
        seconds=PICK_UP_SECONDS,
        coalesce=True,
        misfire_grace_time=None,
    )
    clock.start()
    return clock


def build_sweeper(
    guarantee: Guarantee,
    *,
    door: str = "sweep",
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[Counts], None] | None = None,
) -> Sweeper:
    """A sweeper for this process, working through the same guarantee as every other door."""

    def provide(clerk_id: str) -> Ensured:
        return guarantee.ensure(Identity(clerk_id), entry=Entry(door), now=datetime.now(UTC))

    return Sweeper(
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        transaction=background_transaction,
        provide=provide,
        rules=guarantee.rules,
        monotonic=time.monotonic,
        batch_size=batch_size,
        on_progress=on_progress,
    )


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
