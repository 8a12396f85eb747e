"""What every door needs of the house: the parts that create_app put together, once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from flask import current_app

from allowance import Allowances
from config import Config
from flights import Flights
from gauges import Gauges
from guarantee import Guarantee
from identity.clerk_client import ClerkClient
from identity.handshake import Handshakes
from identity.local import LocalIdentityProvider
from identity.local_sessions import LocalSessions
from identity.session_calls import SessionCalls
from identity.tokens import TokenVerifier
from identity_refresh import BackgroundRefresh
from job_runner import JobRunner

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
