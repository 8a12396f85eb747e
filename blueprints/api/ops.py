"""Liveness, readiness and metrics, for load balancers and monitoring."""

from collections.abc import Mapping
from datetime import timedelta
from hmac import compare_digest
from typing import Literal

from flask import Blueprint, request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from pydantic import SecretStr
from typing_extensions import TypedDict

from core.metrics import render
from web import health
from web.access_policy import public_unlimited
from web.api import api_operation
from web.errors import HttpError, UnauthenticatedError
from web.services import services

HEALTHY_STATES = {"ok", "not_configured", "none_yet"}

ops = Blueprint("ops", __name__)


class HealthResponse(TypedDict):
    """The process is alive."""

    status: Literal["ok"]


class ReadinessResponse(TypedDict):
    """Whether requests can be served, and the state of each part."""

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, str]


@ops.get("/healthz")
@public_unlimited
@api_operation()
def healthz() -> HealthResponse:
    """200 while this process serves; checks nothing else."""
    return {"status": "ok"}


@ops.get("/readyz")
@public_unlimited
@api_operation()
def readyz() -> tuple[ReadinessResponse, Literal[200, 503]]:
    """200 when requests can be served; 503 without database or behind on migrations.

    `degraded` if an optional part fails. Simultaneous requests share one check.
    """
    checks, _ = services().readiness.run("checks", _run_checks)
    if checks["database"] != "ok":
        return {"status": "unavailable", "checks": checks}, 503
    is_healthy = all(state in HEALTHY_STATES for state in checks.values())
    return {"status": "ok" if is_healthy else "degraded", "checks": checks}, 200


def _run_checks() -> dict[str, str]:
    config = services().config
    database = health.database()
    interval = timedelta(seconds=config.sweep_interval_seconds)
    return {
        "database": database,
        "redis": health.redis(is_configured=config.redis_url is not None),
        "sweep": health.sweep(interval) if database == "ok" else "unknown",
        "identity_provider": _check_identity_provider(),
    }


def _check_identity_provider() -> str:
    """Return the state known from earlier calls; the check itself calls nothing."""
    directory = services().provisioning.directory
    if services().verifier.keys.is_missing:
        return "no_keys"
    return "ok" if directory is None or directory.is_answering else "not_answering"


@ops.get("/metrics")
@public_unlimited
@api_operation("unauthenticated", "not_found")
def metrics() -> tuple[str, Literal[200], Mapping[str, str]]:
    """Metrics of this host's processes and of the whole installation.

    In production METRICS_TOKEN is required; without that setting there is no such page.
    """
    if services().config.is_production:
        _check_token(services().config.metrics_token)
    text = render(services().backlog).decode()
    return text, 200, {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}


def _check_token(token: SecretStr | None) -> None:
    if token is None:
        raise HttpError("not_found", "there are no metrics without a token")
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    is_right = compare_digest(value.encode(), token.get_secret_value().encode())
    if scheme.lower() != "bearer" or not is_right:
        raise UnauthenticatedError("the token is not METRICS_TOKEN")
