"""Is it alive, is it ready? For load balancers and for whoever is on call."""

from collections.abc import Mapping
from datetime import timedelta
from hmac import compare_digest
from typing import Literal

from flask import Blueprint, request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import SecretStr
from typing_extensions import TypedDict

from core.metrics import exposition
from web import health
from web.access_policy import public_unlimited
from web.api import api_operation
from web.errors import NotFoundError, UnauthenticatedError
from web.services import services

FINE = {"ok", "not_configured", "none_yet"}

ops = Blueprint("ops", __name__)


class HealthResponse(TypedDict):
    """The process serves."""

    status: Literal["ok"]


class ReadinessResponse(TypedDict):
    """Whether requests can be served, and how each part is."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, str]


@ops.get("/healthz")
@public_unlimited
@api_operation()
def healthz() -> HealthResponse:
    """200 while this process serves; asks nobody else."""
    return {"status": "ok"}


@ops.get("/readyz")
@public_unlimited
@api_operation()
def readyz() -> tuple[ReadinessResponse, Literal[200, 503]]:
    """200 when requests can be served; 503 without database or behind on migrations.

    `degraded` when something they can do without is amiss. Simultaneous questions share one answer.
    """
    checks, _ = services().readiness.run("checks", _checks)
    if checks["database"] != "ok":
        return {"status": "unavailable", "checks": checks}, 503
    is_well = all(found in FINE for found in checks.values())
    return {"status": "ok" if is_well else "degraded", "checks": checks}, 200


def _checks() -> dict[str, str]:
    config = services().config
    database = health.database()
    interval = timedelta(seconds=config.sweep_interval_seconds)
    return {
        "database": database,
        "redis": health.redis(is_configured=config.redis_url is not None),
        "sweep": health.sweep(interval) if database == "ok" else "unknown",
        "identity_provider": _identity_provider(),
    }


def _identity_provider() -> str:
    """As far as this process has heard; nobody is asked for the sake of a check."""
    directory = services().provisioning.directory
    if services().verifier.keys.is_missing:
        return "no_keys"
    return "ok" if directory is None or directory.is_answering else "not_answering"


@ops.get("/metrics")
@public_unlimited
@api_operation("unauthenticated", "not_found")
def metrics() -> tuple[str, Literal[200], Mapping[str, str]]:
    """What this host's processes have counted and what is true of the whole installation.

    In production only for whoever shows METRICS_TOKEN; without one there is no such page.
    """
    if services().config.is_production:
        _check_token(services().config.metrics_token)
    told = exposition(services().backlog).decode()
    return told, 200, {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}


def _check_token(token: SecretStr | None) -> None:
    if token is None:
        raise NotFoundError("there are no metrics without a token")
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    is_right = compare_digest(shown.encode(), token.get_secret_value().encode())
    if scheme.lower() != "bearer" or not is_right:
        raise UnauthenticatedError("this is not the token of METRICS_TOKEN")
