"""Is it alive, is it ready? For load balancers and for whoever is on call."""

from flask import Blueprint
from flask.typing import ResponseReturnValue

import health
from blueprints.stance import public
from house import house

ops = Blueprint("ops", __name__)


@ops.get("/healthz")
@public
def healthz() -> ResponseReturnValue:
    """200 while this process serves; asks nobody else."""
    return {"status": "ok"}


@ops.get("/readyz")
@public
def readyz() -> ResponseReturnValue:
    """200 when requests can be served; 503 without database or behind on migrations."""
    is_configured = house().config.redis_url is not None
    checks = {"database": health.database(), "redis": health.redis(is_configured=is_configured)}
    if checks["database"] != "ok":
        return {"status": "unavailable", "checks": checks}, 503
    return {"status": "degraded" if checks["redis"] == "down" else "ok", "checks": checks}
