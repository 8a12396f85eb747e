"""Are the database and Redis there? For load balancers, and for whoever is on call."""

from functools import cache as once
from pathlib import Path

import structlog
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from extensions import cache, transaction

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"


def database() -> str:
    """`ok`, `down` or `behind_on_migrations`."""
    try:
        with transaction() as session:
            table = session.scalar(text("SELECT to_regclass('alembic_version')"))
            query = text("SELECT version_num FROM alembic_version")
            current = session.scalar(query) if table else None
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "down"
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


@once
def _head() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()
