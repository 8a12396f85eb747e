"""Health checks of the database, Redis, the sweep and the identity provider."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache as once
from pathlib import Path

import structlog
from redis.exceptions import ResponseError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from auth.jwks import KeySet
from core.activity import Activity
from core.config import Config
from core.connection_pool import pool_of
from core.database import cache, db, transaction
from core.single_flight import FreshSingleFlight
from provisioning.service import ProvisioningService
from sweep import runs

log = structlog.get_logger(__name__)

PROBE_TTL_SECONDS = 10
SILENT_AFTER_INTERVALS = 3  # as in the alert SweepSilent
STATE_QUERY = text("""
    SELECT to_regclass('alembic_version') IS NOT NULL, current_setting('transaction_read_only')
""")
REVISION_QUERY = text("SELECT version_num FROM alembic_version")
OWN_REVISION = re.compile("[0-9]{4}")
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations" / "versions"


def database() -> str:
    """Return `ok`, `connecting`, `down`, `read_only` or `behind_on_migrations`.

    `connecting` while the first connection of this process, or the first one after all were lost,
    is being opened.
    """
    if pool_of(db.engine.engine).is_connecting:
        return "connecting"  # to wait for it would hold this thread
    try:
        return read_database_state()
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "connecting" if pool_of(db.engine.engine).is_connecting else "down"


def read_database_state() -> str:
    """Return `ok`, `read_only` or `behind_on_migrations`; raises the database's errors.

    A database that a newer version has migrated is `ok`: migrations are safe under the old code.
    """
    with transaction() as session:
        is_migrated, read_only = session.execute(STATE_QUERY).one()
        current = (session.scalar(REVISION_QUERY) if is_migrated else None) or ""
    if read_only == "on":
        pool_of(db.engine.engine).server.note_read_only()  # the next connection may be writable
        return "read_only"
    is_behind = current != newest_revision() and not is_newer(current)
    return "behind_on_migrations" if is_behind else "ok"


def is_newer(revision: str) -> bool:
    """Whether a newer version of this program has made the revision, by its number."""
    return OWN_REVISION.fullmatch(revision) is not None and revision > newest_revision()


def database_revision() -> str:
    """Return the revision of a migrated database."""
    with transaction() as session:
        revision: str = session.scalars(REVISION_QUERY).one()
    return revision


def redis(*, is_configured: bool) -> str:
    """Return `ok`, `down`, `refuses_writes` or `not_configured`, by a write.

    A read would succeed on a replica, with full memory or disk, and for a user without write
    access.
    """
    if not is_configured:
        return "not_configured"
    try:
        cache.set("readyz", "1", timeout=PROBE_TTL_SECONDS)
    except Exception as err:  # any failure of Redis: the app works without it
        log.warning("cache_error", error=type(err).__name__)
        return "refuses_writes" if isinstance(err, ResponseError) else "down"
    return "ok"


def sweep(silent_after: timedelta) -> str:
    """Return `ok`, `none_yet`, `silent` after this time without success, or `unknown`."""
    try:
        with transaction() as session:
            age = runs.time_since_success(session)
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "unknown"
    if age is None:
        return "none_yet"
    return "silent" if age > silent_after else "ok"


@dataclass(slots=True)
class Readiness:
    """The checks of `/readyz`; simultaneous requests share one.

    While the installation is idle, the last good result of the checks that use the database is
    returned, so that monitors do not keep a serverless database awake.
    """

    config: Config
    activity: Activity
    provisioning: ProvisioningService
    keys: KeySet
    now: Callable[[], datetime]
    _single_flight: FreshSingleFlight[dict[str, str]] = field(default_factory=FreshSingleFlight)
    _database_checks: dict[str, str] = field(default_factory=dict)
    _checked_at: datetime | None = None

    def check(self) -> dict[str, str]:
        """Run all checks and return the state of each part."""
        checks, _ = self._single_flight.run("checks", self._run_all)
        return checks

    def read(self) -> tuple[dict[str, str], datetime | None]:
        """Return the state of each part, and when the database was asked; None for just now."""
        if self.activity.is_idle and self._database_checks.get("database") == "ok":
            return {**self._database_checks, **self._other_checks()}, self._checked_at
        return self.check(), None

    def _run_all(self) -> dict[str, str]:
        silent_seconds = self.config.sweep_interval_seconds * SILENT_AFTER_INTERVALS
        if self.activity.seconds_in_use < silent_seconds:  # the first sweep after idle time runs
            silent_seconds += self.config.database_idle_sweep_seconds
        state = database()
        is_ok = state == "ok"
        sweep_state = sweep(timedelta(seconds=silent_seconds)) if is_ok else "unknown"
        self._database_checks = {"database": state, "sweep": sweep_state}
        self._checked_at = self.now()
        return {**self._database_checks, **self._other_checks()}

    def _other_checks(self) -> dict[str, str]:
        """Return the state of Redis, and of the provider as known from earlier calls."""
        directory = self.provisioning.directory
        is_answering = directory is None or directory.is_answering
        provider = "ok" if is_answering else "not_answering"
        return {
            "redis": redis(is_configured=self.config.redis_url is not None),
            "identity_provider": "no_keys" if self.keys.is_missing else provider,
        }


@once
def newest_revision() -> str:
    """Return the newest migration; each file's name begins with its number."""
    return max(path.name.partition("_")[0] for path in MIGRATIONS.glob("[0-9]*.py"))
