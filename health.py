"""Are the parts there that we stand on? For load balancers, and for whoever is on call."""

from datetime import timedelta
from functools import cache as once
from pathlib import Path

import structlog
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from connection_pool import pool_of
from extensions import cache, db, transaction
from provisioning import runs

log = structlog.get_logger(__name__)

SILENT_AFTER = 3  # intervals, as the alert SweepSilent has it
MIGRATIONS = Path(__file__).parent / "migrations"


def database() -> str:
    """`ok`, `connecting` before the first connection of this process, `down`, or
    `behind_on_migrations`.
    """
    try:
        with transaction() as session:
            table = session.scalar(text("SELECT to_regclass('alembic_version')"))
            query = text("SELECT version_num FROM alembic_version")
            current = session.scalar(query) if table else None
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "connecting" if pool_of(db.engine.engine).server.is_first_attempt else "down"
    return "ok" if current == _head() else "behind_on_migrations"


def redis(*, is_configured: bool) -> str:
    """`ok`, `down` or `not_configured`."""
    if not is_configured:
        return "not_configured"
    try:
        cache.get("readyz")
    except Exception as err:  # whatever keeps Redis from answering, the database still serves
        log.warning("cache_error", error=type(err).__name__)
        return "down"
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
