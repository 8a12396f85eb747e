"""What is true of the whole installation, read from the database when Prometheus asks.

Every process of every host tells the same, so take the maximum over them, never the sum.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from extensions import background_transaction
from models import SweepTotal
from provisioning import runs
from provisioning.backlog import Backlog, count_backlog
from provisioning.linking import Rules

log = structlog.get_logger(__name__)

# To find who is missing, PostgreSQL compares two whole tables: a second for millions of people.
# What was read holds for so many times as long as reading it took, which costs 2 % at most.
REST = 50
LONGEST_READ_SECONDS = 5.0  # Prometheus itself gives up after ten


@dataclass(frozen=True, slots=True)
class Reading:
    """What the database knew at one moment."""

    backlog: Backlog
    totals: Sequence[SweepTotal]
    succeeded_at: datetime | None


@dataclass(slots=True, eq=False)
class Gauges(Collector):
    """One for an app, shared by its threads; tells nothing while the database is away."""

    rules: Rules
    sweep_interval: timedelta
    now: Callable[[], datetime]
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reading: Reading | None = None
    _valid_until: float = 0.0

    def collect(self) -> Iterator[Metric]:
        """The families of CONTRACT section 6 that no process could count alone."""
        seconds = self.sweep_interval.total_seconds()
        yield GaugeMetricFamily("sweep_interval_seconds", "From one sweep to the next.", seconds)
        reading = self.reading()
        if reading is not None:
            yield from _waiting(reading.backlog, self.now())
            yield from _sweeps(reading.totals, reading.succeeded_at)

    def describe(self) -> list[Metric]:
        """Nothing: their names are known before the database is asked."""
        return []

    def reading(self) -> Reading | None:
        """What holds just now, or held a moment ago; None when the database did not tell."""
        with self._lock:
            if self.clock() >= self._valid_until:
                self._read()
            return self._reading

    def renew(self) -> None:
        """Read anew at the next question: somebody has just changed what was read."""
        self._valid_until = 0.0

    def _read(self) -> None:
        started = self.clock()
        try:
            with background_transaction(LONGEST_READ_SECONDS) as session:
                self._reading = Reading(count_backlog(session, self.rules), *runs.totals(session))
            rest = REST
        except SQLAlchemyError as err:
            log.warning("gauges_not_read", error=type(err).__name__)
            self._reading, rest = None, 1
        self._valid_until = self.clock() + rest * (self.clock() - started)


def _waiting(backlog: Backlog, now: datetime) -> Iterator[Metric]:
    since = backlog.waiting_since
    waited = (now - since).total_seconds() if since else 0.0
    for name, meaning, value in (
        ("users_without_mentorado", "People due a profile.", backlog.waiting),
        ("users_without_mentorado_oldest_seconds", "How long the first of them waits.", waited),
        ("provisioning_dead_letters", "People given up on.", backlog.dead_letters),
        (
            "mentorados_ambiguous_addresses",
            "Addresses that several profiles without owner have.",
            backlog.ambiguous_addresses,
        ),
    ):
        yield GaugeMetricFamily(name, meaning, value)


def _sweeps(totals: Sequence[SweepTotal], succeeded_at: datetime | None) -> Iterator[Metric]:
    counted = CounterMetricFamily(
        "sweep_runs", "Sweeps that are over.", labels=["trigger", "status"]
    )
    for total in totals:
        counted.add_metric([total.trigger, total.status], total.runs)
    yield counted
    repaired = sum(total.repaired for total in totals)
    yield CounterMetricFamily("sweep_repaired", "People given a profile by sweeps.", repaired)
    if succeeded_at is not None:
        yield GaugeMetricFamily(
            "sweep_last_success_timestamp_seconds",
            "When the last sweep ended well.",
            succeeded_at.timestamp(),
        )
