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
from sqlalchemy import and_, extract, func, not_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.database import background_transaction
from models import AuditEvent, Mentorado, ProvisioningAttempt, SweepRun, SweepTotal, User
from models.provisioning_attempt import UNUSABLE_ANSWER, AttemptState
from models.sweep_run import SweepStatus
from provisioning import auto_create
from provisioning.profiles import SHOULD_HAVE_PROFILE
from provisioning.rules import Rules
from sweep import missing_profiles, runs

# Of a record of failure: whether its person has a profile by now, and only a sweep is missing.
IS_HELPED = (
    select(Mentorado.id)
    .join(User, User.id == Mentorado.user_id)
    .where(User.clerk_id == ProvisioningAttempt.clerk_id)
    .exists()
)
# Whether it is about somebody who is not meant to have one, however often it failed before.
IS_NOT_DUE = (
    select(User.id)
    .where(User.clerk_id == ProvisioningAttempt.clerk_id)
    .where(not_(and_(*SHOULD_HAVE_PROFILE)))
    .exists()
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """People the background has given up on, addresses that more than one profile without owner
    waits for, people of whom the provider has not told everything yet, and people who wait for a
    profile, tried or not, with the time since when the first of them waits.
    """

    dead_letters: int
    ambiguous_addresses: int
    incomplete: int
    waiting: int
    waiting_since: datetime | None


def count_backlog(session: Session, rules: Rules) -> Backlog:
    """Count what waits under these rules."""
    dead = select(func.count()).where(ProvisioningAttempt.state == AttemptState.DEAD)
    address = func.normalized_address(Mentorado.email)
    shared = (
        select(address)
        .where(Mentorado.user_id.is_(None), Mentorado.email.is_not(None))
        .group_by(address)
        .having(func.count() > 1)
        .subquery()
    )
    ambiguous = select(func.count()).select_from(shared)
    incomplete = select(func.count()).where(User.identity_completed_at.is_(None))
    waits = (~IS_HELPED, ~IS_NOT_DUE, ProvisioningAttempt.error_class != UNUSABLE_ANSWER)
    tried = select(func.count(ProvisioningAttempt.id)).where(*waits)
    since = select(func.min(ProvisioningAttempt.first_failed_at)).where(*waits)
    queries = (dead, ambiguous, incomplete, tried, since)
    numbers = [query.scalar_subquery() for query in queries]
    dead_letters, addresses, unknown, failing, failing_since = session.execute(
        select(*numbers)
    ).one()
    missing, missing_since = missing_profiles.missing_since(session, rules)
    first = min(filter(None, (missing_since, failing_since)), default=None)
    return Backlog(dead_letters, addresses, unknown, missing + failing, first)


def count_users_with_two_profiles(session: Session) -> int:
    """How many people have more than one profile; the table's index says none, so this is alarm."""
    doubled = (
        select(Mentorado.user_id)
        .where(Mentorado.user_id.is_not(None))
        .group_by(Mentorado.user_id)
        .having(func.count() > 1)
    )
    return session.scalars(select(func.count()).select_from(doubled.subquery())).one()


PROVIDED = ("mentorado_created", "mentorado_linked", "mentorado_claimed")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why profiles could not be made, and how many in the last hour and day still have none."""

    error: str
    last_hour: int
    last_day: int


@dataclass(frozen=True, slots=True)
class ProvisioningStats:
    """How the last day was.

    `success_rate`, from 0 to 1, and `p95_seconds` are None where nobody came.
    """

    provided: int
    failing: int
    p95_seconds: float | None
    reasons: tuple[Reason, ...]
    is_switched_on: bool
    last_sweep: SweepRun | None

    @property
    def success_rate(self) -> float | None:
        """Of those who were given a profile or still fail, how many have got one."""
        everybody = self.provided + self.failing
        return self.provided / everybody if everybody else None


def read_stats(session: Session, *, now: datetime) -> ProvisioningStats:
    """Count what happened in the day before `now`."""
    reasons = _reasons(session, now)
    provided, p95_seconds = _provided(session, now - DAY)
    return ProvisioningStats(
        provided=provided,
        failing=sum(reason.last_day for reason in reasons),
        p95_seconds=p95_seconds,
        reasons=reasons,
        is_switched_on=auto_create.is_enabled(session),
        last_sweep=_last_sweep(session),
    )


def _provided(session: Session, since: datetime) -> tuple[int, float | None]:
    """How many were given a profile, and the 95th percentile of what it took.

    From when a person was first heard of to their automatic profile; 0 within one request.
    """
    told = select(func.count()).where(AuditEvent.event.in_(PROVIDED), AuditEvent.at >= since)
    waited = extract("epoch", Mentorado.created_at - User.created_at)
    p95 = (
        select(func.percentile_cont(0.95).within_group(waited))
        .select_from(Mentorado)
        .join(User, User.id == Mentorado.user_id)
        .where(Mentorado.created_automatically, Mentorado.created_at >= since)
    )
    number, seconds = session.execute(select(told.scalar_subquery(), p95.scalar_subquery())).one()
    return number, None if seconds is None else float(seconds)


def _reasons(session: Session, now: datetime) -> tuple[Reason, ...]:
    failed_at, code = ProvisioningAttempt.last_failed_at, ProvisioningAttempt.error_code
    error = func.concat_ws(" ", ProvisioningAttempt.error_class, code)
    in_the_hour = func.count().filter(failed_at >= now - HOUR)
    rows = session.execute(
        select(error, in_the_hour, func.count())
        .where(failed_at >= now - DAY, ~IS_HELPED)
        .group_by(error)
        .order_by(func.count().desc(), error)
    )
    return tuple(Reason(*row) for row in rows)


def _last_sweep(session: Session) -> SweepRun | None:
    over = SweepRun.status.in_((SweepStatus.SUCCEEDED, SweepStatus.FAILED, SweepStatus.ABANDONED))
    real = select(SweepRun).where(over, ~SweepRun.dry_run)
    return session.scalars(real.order_by(SweepRun.id.desc()).limit(1)).one_or_none()


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
class BacklogCollector(Collector):
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
