"""What every door needs of the house: the parts that create_app put together, once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from flask import current_app

from config import Config
from guarantee import Guarantee
from identity.local import LocalIdentityProvider
from identity.tokens import TokenVerifier

EXTENSION = "house"


@dataclass(frozen=True, slots=True)
class House:
    """The parts that requests share; `local` is there only while the stand-in answers for Clerk."""

    config: Config
    verifier: TokenVerifier
    guarantee: Guarantee
    now: Callable[[], datetime]
    admin_emails: frozenset[str]
    local: LocalIdentityProvider | None


def house() -> House:
    """The house of the app that is serving."""
    return cast(House, current_app.extensions[EXTENSION])
