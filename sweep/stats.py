"""Backlog, statistics of the last day, and the metrics that are read from the database.

These metrics describe the whole installation and are equal in every process of every host. Queries
over several processes must take their maximum, never the sum.
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
from sqlalchemy import Row, and_, extract, func, not_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.activity import Activity
from core.database import background_transaction
from models import AuditEvent, Mentorado, ProvisioningAttempt, SweepRun, SweepTotal, User
from models.background import UNUSABLE_ANSWER, AttemptState, SweepStatus
from provisioning.admin_actions import is_auto_create_on
from provisioning.profiles import SHOULD_HAVE_PROFILE
from provisioning.rules import Rules
from sweep import missing_users, runs

log = structlog.get_logger(__name__)

PROFILE_EVENTS = ("mentorado_created", "mentorado_linked", "mentorado_claimed")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# To find users without a profile, PostgreSQL compares two whole tables: a second for millions of
# users. A reading is valid for this multiple of its own duration, which costs 2 % at most.
VALIDITY_FACTOR = 50
LONGEST_READ_SECONDS = 5.0  # Prometheus times out after ten
# Of a failed attempt: its user has a profile by now; the next sweep resolves the attempt.
HAS_PROFILE = (
    select(Mentorado.id)
    .join(User, User.id == Mentorado.user_id)
    .where(User.clerk_id == ProvisioningAttempt.clerk_id)
    .exists()
)
# Of a failed attempt: its user should have no profile.
IS_EXCLUDED = (
    select(User.id)
    .where(User.clerk_id == ProvisioningAttempt.clerk_id)
    .where(not_(and_(*SHOULD_HAVE_PROFILE)))
    .exists()
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Open work of the installation.

    `ambiguous_addresses` are shared by several unlinked profiles. `incomplete` counts users with an
    incomplete identity. `without_profile` counts users who should have a profile and have none,
    with or without a failed attempt; `without_profile_since` is the time of the first of them.
    """

    dead_letters: int
    ambiguous_addresses: int
    incomplete: int
    without_profile: int
    without_profile_since: datetime | None


def count_backlog(session: Session, rules: Rules) -> Backlog:
    """Count the backlog under these rules."""
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
    is_open = (~HAS_PROFILE, ~IS_EXCLUDED, ProvisioningAttempt.error_class != UNUSABLE_ANSWER)
    failing = select(func.count(ProvisioningAttempt.id)).where(*is_open)
    since = select(func.min(ProvisioningAttempt.first_failed_at)).where(*is_open)
    queries = (dead, ambiguous, incomplete, failing, since)
    row = session.execute(select(*(query.scalar_subquery() for query in queries))).one()
    dead_letters, addresses, incomplete_users, failing_users, failing_since = row
    missing, missing_since = missing_users.missing_since(session, invited_only=rules.invited_only)
    first = min(filter(None, (missing_since, failing_since)), default=None)
    return Backlog(dead_letters, addresses, incomplete_users, missing + failing_users, first)


def count_users_with_two_profiles(session: Session) -> int:
    """Count the users with more than one profile; a unique index prevents them, so this is 0."""
    duplicates = (
        select(Mentorado.user_id)
        .where(Mentorado.user_id.is_not(None))
        .group_by(Mentorado.user_id)
        .having(func.count() > 1)
    )
    return session.scalars(select(func.count()).select_from(duplicates.subquery())).one()


@dataclass(frozen=True, slots=True)
class ProvisioningStats:
    """Statistics of the last day.

    `ensured` counts profiles created, linked or claimed. `reasons` have the `error` of failed
    attempts, and how many users without a profile it affected in the `last_hour` and `last_day`.
    `success_rate` (0 to 1) and `p95_seconds` are None if there were none.
    """

    ensured: int
    p95_seconds: float | None
    reasons: Sequence[Row[str, int, int]]
    is_auto_create_on: bool
    last_sweep: SweepRun | None

    @property
    def failing(self) -> int:
        """Return how many users had a failed attempt and have no profile."""
        return sum(reason.last_day for reason in self.reasons)

    @property
    def success_rate(self) -> float | None:
        """Return the share of users with a profile among those ensured and failing."""
        total = self.ensured + self.failing
        return self.ensured / total if total else None


def read_stats(session: Session, *, now: datetime) -> ProvisioningStats:
    """Read the statistics of the day before `now`."""
    since = now - DAY
    events = select(func.count()).where(
        AuditEvent.event.in_(PROFILE_EVENTS), AuditEvent.at >= since
    )
    # From the user's row to its automatic profile; 0 within one request.
    seconds_waited = extract("epoch", Mentorado.created_at - User.created_at)
    p95 = (
        select(func.percentile_cont(0.95).within_group(seconds_waited))
        .select_from(Mentorado)
        .join(User, User.id == Mentorado.user_id)
        .where(Mentorado.created_automatically, Mentorado.created_at >= since)
    )
    ended = (SweepStatus.SUCCEEDED, SweepStatus.FAILED, SweepStatus.ABANDONED)
    sweeps = select(SweepRun).where(SweepRun.status.in_(ended), ~SweepRun.dry_run)
    figures = select(events.scalar_subquery(), p95.scalar_subquery())
    ensured, p95_seconds = session.execute(figures).one()
    return ProvisioningStats(
        ensured=ensured,
        p95_seconds=p95_seconds,
        reasons=_reasons(session, now),
        is_auto_create_on=is_auto_create_on(session),
        last_sweep=session.scalar(sweeps.order_by(SweepRun.id.desc()).limit(1)),
    )


def _reasons(session: Session, now: datetime) -> Sequence[Row[str, int, int]]:
    failed_at, code = ProvisioningAttempt.last_failed_at, ProvisioningAttempt.error_code
    error = func.concat_ws(" ", ProvisioningAttempt.error_class, code)
    last_hour = func.count().filter(failed_at >= now - HOUR)
    return session.execute(
        select(error.label("error"), last_hour.label("last_hour"), func.count().label("last_day"))
        .where(failed_at >= now - DAY, ~HAS_PROFILE)
        .group_by(error)
        .order_by(func.count().desc(), error)
    ).all()


@dataclass(frozen=True, slots=True)
class Reading:
    """The backlog and the totals of sweeps at one moment."""

    read_at: datetime
    backlog: Backlog
    totals: Sequence[SweepTotal]
    succeeded_at: datetime | None


@dataclass(slots=True, eq=False)
class BacklogCollector(Collector):
    """Prometheus collector of one app, used by its threads; yields less if the database fails.

    While the installation is idle, a reading does not expire, so that scrapes do not keep a
    serverless database awake.
    """

    rules: Rules
    sweep_interval: timedelta
    now: Callable[[], datetime]
    activity: Activity = field(default_factory=Activity)
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reading: Reading | None = None
    _valid_until: float = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of `docs/reference/contract.md#metrics` that come from the database."""
        seconds = self.sweep_interval.total_seconds()
        yield GaugeMetricFamily("sweep_interval_seconds", "From one sweep to the next.", seconds)
        is_idle = float(self.activity.is_idle)
        yield GaugeMetricFamily("database_idle", "Whether the database is left alone.", is_idle)
        reading = self.read()
        if reading is None:
            return
        yield from _gauges(reading, self.now())
        ended = CounterMetricFamily("sweep_runs", "Ended sweeps.", labels=["trigger", "status"])
        for total in reading.totals:
            ended.add_metric([total.trigger, total.status], total.runs)
        yield ended
        repaired = sum(total.repaired for total in reading.totals)
        yield CounterMetricFamily("sweep_repaired", "Profiles ensured by sweeps.", repaired)

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering the collector does not read the database."""
        return []

    def read(self) -> Reading | None:
        """Return the cached reading, or a new one once it has expired; None if reading failed."""
        with self._lock:
            is_kept = self._reading is not None and self.activity.is_idle
            if self.clock() >= self._valid_until and not is_kept:
                self._read()
            return self._reading

    def refresh(self) -> None:
        """Replace the cached reading."""
        with self._lock:
            self._read()

    def invalidate(self) -> None:
        """Expire the cached reading, after a change of what it counts."""
        self._valid_until = 0.0

    def _read(self) -> None:
        started = self.clock()
        try:
            with background_transaction(LONGEST_READ_SECONDS) as session:
                backlog, totals = count_backlog(session, self.rules), runs.read_totals(session)
            self._reading = Reading(self.now(), backlog, *totals)
            factor = VALIDITY_FACTOR
        except SQLAlchemyError as err:
            log.warning("gauges_not_read", error=type(err).__name__)
            self._reading, factor = None, 1
        self._valid_until = self.clock() + factor * (self.clock() - started)


def _gauges(reading: Reading, now: datetime) -> Iterator[Metric]:
    backlog, since, success = (
        reading.backlog,
        reading.backlog.without_profile_since,
        reading.succeeded_at,
    )
    seconds = (now - since).total_seconds() if since else 0.0
    read_at, success_at = reading.read_at.timestamp(), success.timestamp() if success else None
    for name, meaning, value in (
        ("backlog_as_of_timestamp_seconds", "When the values that follow were read.", read_at),
        ("users_without_mentorado", "Users due a profile who have none.", backlog.without_profile),
        ("users_without_mentorado_oldest_seconds", "How long the first of them waits.", seconds),
        ("provisioning_dead_letters", "Failed users without further retry.", backlog.dead_letters),
        (
            "mentorados_ambiguous_addresses",
            "Addresses of more than one unlinked profile.",
            backlog.ambiguous_addresses,
        ),
        (
            "sweep_last_success_timestamp_seconds",
            "When the last successful sweep ended.",
            success_at,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, meaning, value)
