"""What every door needs of the house: the parts that create_app put together, once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from flask import current_app

from auth.clerk_client import ClerkClient
from auth.handshake import Handshakes
from auth.session_calls import SessionCalls
from auth.tokens import TokenVerifier
from core.config import Config
from core.rate_limit import Allowances
from core.single_flight import Flights
from dev.fake_clerk import LocalIdentityProvider, LocalSessions
from provisioning.identity_refresh import BackgroundRefresh
from provisioning.job_runner import JobRunner
from provisioning.service import Guarantee
from sweep.stats import Gauges

EXTENSION = "house"
LOCAL_FRONTEND = "/local-clerk"


@dataclass(frozen=True, slots=True)
class House:
    """The parts that requests share; the local ones are there only while the stand-in serves."""

    config: Config
    verifier: TokenVerifier
    handshakes: Handshakes
    guarantee: Guarantee
    gauges: Gauges
    refresh: BackgroundRefresh
    jobs: JobRunner
    allowances: Allowances
    readiness: Flights[dict[str, str]]
    clerk: ClerkClient | None
    session_calls: SessionCalls | None
    now: Callable[[], datetime]
    local: LocalIdentityProvider | None
    local_sessions: LocalSessions | None

    def frontend_api(self, origin: str) -> str | None:
        """Where browsers go for a handshake; the stand-in's is on our own site."""
        own = origin.rstrip("/") + LOCAL_FRONTEND if self.local else None
        return self.config.frontend_api_url or own


def house() -> House:
    """The house of the app that is serving."""
    return cast(House, current_app.extensions[EXTENSION])
