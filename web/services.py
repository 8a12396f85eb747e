"""The services of an app, which `create_app` builds once and views use."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from flask import current_app

from auth.clerk_calls import SessionCalls
from auth.clerk_client import ClerkClient
from auth.handshake import HandshakeService
from auth.tokens import TokenVerifier
from core.activity import Activity
from core.config import Config
from core.rate_limit import RateLimiter
from provisioning.identity_lookups import BackgroundRefresh
from provisioning.service import ProvisioningService
from sweep.stats import BacklogCollector
from web.health import Readiness
from web.job_runner import JobRunner

if TYPE_CHECKING:
    from dev.fake_clerk import DevIdentityProvider, DevSessions

EXTENSION = "services"


@dataclass(frozen=True, slots=True)
class Services:
    """The services that requests share; `dev_*` only with the development identity provider."""

    config: Config
    activity: Activity
    verifier: TokenVerifier
    handshakes: HandshakeService
    provisioning: ProvisioningService
    backlog: BacklogCollector
    refresh: BackgroundRefresh
    jobs: JobRunner
    rate_limiter: RateLimiter
    readiness: Readiness
    clerk: ClerkClient | None
    session_calls: SessionCalls | None
    now: Callable[[], datetime]
    dev_provider: "DevIdentityProvider | None"
    dev_sessions: "DevSessions | None"


def services() -> Services:
    """Return the services of the current app."""
    return cast(Services, current_app.extensions[EXTENSION])
