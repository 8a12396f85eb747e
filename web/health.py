"""Are the parts there that we stand on? For load balancers, and for whoever is on call."""

from datetime import timedelta
from functools import cache as once
from pathlib import Path

import structlog
from alembic.script import ScriptDirectory
from redis.exceptions import ResponseError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core.connection_pool import pool_of
from core.database import cache, db, transaction
from sweep import runs

log = structlog.get_logger(__name__)

PROBE_TTL_SECONDS = 10
SILENT_AFTER = 3  # intervals, as the alert SweepSilent has it
STATE = text("""
    SELECT to_regclass('alembic_version') IS NOT NULL, current_setting('transaction_read_only')
""")
REVISION = text("SELECT version_num FROM alembic_version")
MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


def database() -> str:
    """`ok`, `connecting` before the first connection of this process, `down`, `read_only`, or
    `behind_on_migrations`.
    """
    try:
        return read_database_state()
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "connecting" if pool_of(db.engine.engine).server.is_first_attempt else "down"


def read_database_state() -> str:
    """`ok`, `read_only` or `behind_on_migrations`; raises what the database raises."""
    with transaction() as session:
        is_migrated, read_only = session.execute(STATE).one()
        current = session.scalar(REVISION) if is_migrated else None
    if read_only == "on":
        pool_of(db.engine.engine).server.note_read_only()  # another connection may tell otherwise
        return "read_only"
    return "ok" if current == _head() else "behind_on_migrations"


def redis(*, is_configured: bool) -> str:
    """`ok`, `down`, `refuses_writes` or `not_configured`; found out by a write.

    A replica, a full memory or disk, and a user without rights answer reads as if all were well.
    """
    if not is_configured:
        return "not_configured"
    try:
        cache.set("readyz", "1", timeout=PROBE_TTL_SECONDS)
    except Exception as err:  # whatever keeps Redis from answering, the database still serves
        log.warning("cache_error", error=type(err).__name__)
        return "refuses_writes" if isinstance(err, ResponseError) else "down"
    return "ok"


def sweep(interval: timedelta) -> str:
    """`ok`, `none_yet`, `silent` after three intervals without success, or `unknown`."""
    try:
        with transaction() as session:
            age = runs.since_success(session)
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "unknown"
    if age is None:
        return "none_yet"
    return "silent" if age > interval * SILENT_AFTER else "ok"


@once
def _head() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()
