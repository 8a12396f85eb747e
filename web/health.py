"""Health checks of the database, Redis and the sweep."""

from datetime import timedelta
from functools import cache as once
from pathlib import Path

import structlog
from redis.exceptions import ResponseError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core.connection_pool import pool_of
from core.database import cache, db, transaction
from sweep import runs

log = structlog.get_logger(__name__)

PROBE_TTL_SECONDS = 10
SILENT_AFTER_INTERVALS = 3  # as in the alert SweepSilent
STATE_QUERY = text("""
    SELECT to_regclass('alembic_version') IS NOT NULL, current_setting('transaction_read_only')
""")
REVISION_QUERY = text("SELECT version_num FROM alembic_version")
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations" / "versions"


def database() -> str:
    """Return `ok`, `connecting`, `down`, `read_only` or `behind_on_migrations`.

    `connecting` comes before the first connection of this process.
    """
    try:
        return read_database_state()
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "connecting" if pool_of(db.engine.engine).server.is_first_attempt else "down"


def read_database_state() -> str:
    """Return `ok`, `read_only` or `behind_on_migrations`; raises the database's errors."""
    with transaction() as session:
        is_migrated, read_only = session.execute(STATE_QUERY).one()
        current = session.scalar(REVISION_QUERY) if is_migrated else None
    if read_only == "on":
        pool_of(db.engine.engine).server.note_read_only()  # the next connection may be writable
        return "read_only"
    return "ok" if current == _newest_revision() else "behind_on_migrations"


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


def sweep(interval: timedelta) -> str:
    """Return `ok`, `none_yet`, `silent` after three intervals without success, or `unknown`."""
    try:
        with transaction() as session:
            age = runs.time_since_success(session)
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "unknown"
    if age is None:
        return "none_yet"
    return "silent" if age > interval * SILENT_AFTER_INTERVALS else "ok"


@once
def _newest_revision() -> str:
    """Return the newest migration; each file's name begins with its number, without gaps."""
    return max(path.name.partition("_")[0] for path in MIGRATIONS.glob("[0-9]*.py"))
