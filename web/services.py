"""What every door needs of the house: the parts that create_app put together, once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from flask import current_app

from auth.clerk_client import ClerkClient
from auth.handshake import HandshakeService
from auth.session_calls import SessionCalls
from auth.tokens import TokenVerifier
from core.config import Config
from core.rate_limit import RateLimiter
from core.single_flight import FreshSingleFlight
from dev.fake_clerk import DevIdentityProvider, DevSessions
from provisioning.identity_refresh import BackgroundRefresh
from provisioning.service import ProvisioningService
from sweep.stats import BacklogCollector
from web.job_runner import JobRunner

EXTENSION = "services"
DEV_FRONTEND = "/local-clerk"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts that requests share; the local ones are there only while the stand-in serves."""

    config: Config
    verifier: TokenVerifier
    handshakes: HandshakeService
    provisioning: ProvisioningService
    backlog: BacklogCollector
    refresh: BackgroundRefresh
    jobs: JobRunner
    rate_limiter: RateLimiter
    readiness: FreshSingleFlight[dict[str, str]]
    clerk: ClerkClient | None
    session_calls: SessionCalls | None
    now: Callable[[], datetime]
    dev_provider: DevIdentityProvider | None
    dev_sessions: DevSessions | None

    def frontend_api(self, origin: str) -> str | None:
        """Where browsers go for a handshake; the stand-in's is on our own site."""
        own = origin.rstrip("/") + DEV_FRONTEND if self.dev_provider else None
        return self.config.frontend_api_url or own


def services() -> Services:
    """The house of the app that is serving."""
    return cast(Services, current_app.extensions[EXTENSION])
