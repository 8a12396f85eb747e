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
from identity.clerk_api import ClerkApi
from identity.handshake import Handshakes
from identity.local import LocalIdentityProvider
from identity.local_sessions import LocalSessions
from identity.tokens import TokenVerifier
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
    jobs: JobRunner
    allowances: Allowances
    readiness: Flights[dict[str, str]]
    clerk_api: ClerkApi | None
    now: Callable[[], datetime]
    local: LocalIdentityProvider | None
    local_sessions: LocalSessions | None

    @property
    def end_session(self) -> Callable[[str], None] | None:
        """Ends a session at the provider, by its id; None where it cannot be told."""
        if self.local_sessions is not None:
            return self.local_sessions.end
        return self.clerk_api.end if self.clerk_api else None

    def frontend_api(self, origin: str) -> str | None:
        """Where browsers go for a handshake; the stand-in's is on our own site."""
        own = origin.rstrip("/") + LOCAL_FRONTEND if self.local else None
        return self.config.frontend_api_url or own


def house() -> House:
    """The house of the app that is serving."""
    return cast(House, current_app.extensions[EXTENSION])
