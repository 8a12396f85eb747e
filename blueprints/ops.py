"""Is it alive, is it ready? For load balancers and for whoever is on call."""

from functools import cache as once
from pathlib import Path

import structlog
from alembic.script import ScriptDirectory
from flask import Blueprint
from flask.typing import ResponseReturnValue
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from blueprints.stance import public
from extensions import cache, transaction
from house import house

ops = Blueprint("ops", __name__)
log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent.parent / "migrations"


@ops.get("/healthz")
@public
def healthz() -> ResponseReturnValue:
    """200 while this process serves; asks nobody else."""
    return {"status": "ok"}


@ops.get("/readyz")
@public
def readyz() -> ResponseReturnValue:
    """200 when requests can be served; 503 without database or behind on migrations."""
    checks = {"database": _database(), "redis": _redis()}
    if checks["database"] != "ok":
        return {"status": "unavailable", "checks": checks}, 503
    return {"status": "degraded" if checks["redis"] == "down" else "ok", "checks": checks}


def _database() -> str:
    try:
        with transaction() as session:
            table = session.scalar(text("SELECT to_regclass('alembic_version')"))
            query = text("SELECT version_num FROM alembic_version")
            current = session.scalar(query) if table else None
    except SQLAlchemyError as err:
        log.warning("database_unavailable", error=type(err).__name__)
        return "down"
    return "ok" if current == _head() else "behind_on_migrations"


def _redis() -> str:
    if house().config.redis_url is None:
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
