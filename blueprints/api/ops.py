"""Liveness, readiness and metrics, for load balancers and monitoring."""

from collections.abc import Mapping
from hmac import compare_digest
from typing import Literal, NotRequired

from flask import Blueprint
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from typing_extensions import TypedDict

from core.metrics import render
from core.types import Timestamp
from provisioning.context import iso_utc
from web.access_policy import public_unlimited
from web.api import api_operation
from web.errors import HttpError, UnauthenticatedError
from web.services import services
from web.session import bearer_token

HEALTHY_STATES = {"ok", "not_configured", "none_yet"}

ops = Blueprint("ops", __name__)


class HealthResponse(TypedDict):
    """The process is alive."""

    status: Literal["ok"]


class ReadinessResponse(TypedDict):
    """Whether requests can be served, and the state of each part.

    `as_of` in an idle installation: when the database was last asked.
    """

    status: Literal["ok", "degraded", "unavailable"]
    checks: dict[str, str]
    as_of: NotRequired[Timestamp]


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

    `degraded` if an optional part fails. Simultaneous requests share one check. In an idle
    installation the answer is the last one, so that the database can suspend.
    """
    checks, as_of = services().readiness.read()
    if checks["database"] != "ok":
        return {"status": "unavailable", "checks": checks}, 503
    is_healthy = all(state in HEALTHY_STATES for state in checks.values())
    answer: ReadinessResponse = {"status": "ok" if is_healthy else "degraded", "checks": checks}
    if as_of is not None:
        answer["as_of"] = iso_utc(as_of)
    return answer, 200


@ops.get("/metrics")
@public_unlimited
@api_operation("unauthenticated", "not_found")
def metrics() -> tuple[str, Literal[200], Mapping[str, str]]:
    """Metrics of this host's processes and of the whole installation.

    In an idle installation, values from the database are the last ones.

    In production METRICS_TOKEN is required; without that setting there is no such page.
    """
    if services().config.is_production:
        token = services().config.metrics_token
        if token is None:
            raise HttpError("not_found", "there are no metrics without a token")
        if not compare_digest((bearer_token() or "").encode(), token.get_secret_value().encode()):
            raise UnauthenticatedError("the token is not METRICS_TOKEN")
    text = render(services().backlog).decode()
    return text, 200, {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
