"""Is it alive, is it ready? For load balancers and for whoever is on call."""

from hmac import compare_digest

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import SecretStr

import health
from blueprints.errors import NotFoundError, UnauthenticatedError
from blueprints.stance import public_unlimited
from house import house
from metrics import exposition

ops = Blueprint("ops", __name__)


@ops.get("/healthz")
@public_unlimited
def healthz() -> ResponseReturnValue:
    """200 while this process serves; asks nobody else."""
    return {"status": "ok"}


@ops.get("/readyz")
@public_unlimited
def readyz() -> ResponseReturnValue:
    """200 when requests can be served; 503 without database or behind on migrations."""
    is_configured = house().config.redis_url is not None
    checks = {"database": health.database(), "redis": health.redis(is_configured=is_configured)}
    if checks["database"] != "ok":
        return {"status": "unavailable", "checks": checks}, 503
    return {"status": "degraded" if checks["redis"] == "down" else "ok", "checks": checks}


@ops.get("/metrics")
@public_unlimited
def metrics() -> ResponseReturnValue:
    """What this host's processes have counted and what is true of the whole installation.

    In production only for whoever shows METRICS_TOKEN; without one there is no such page.
    """
    if house().config.is_production:
        _check_token(house().config.metrics_token)
    return Response(exposition(house().gauges), content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _check_token(token: SecretStr | None) -> None:
    if token is None:
        raise NotFoundError("there are no metrics without a token")
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    is_right = compare_digest(shown.encode(), token.get_secret_value().encode())
    if scheme.lower() != "bearer" or not is_right:
        raise UnauthenticatedError("this is not the token of METRICS_TOKEN")
