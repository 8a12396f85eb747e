"""Is Clerk set up, and does it answer? One line for each thing that going live needs."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from identity.clerk_api import ClerkApi
from identity.errors import ProviderUnavailableError, UnknownUserError, UnusableAnswerError
from identity.keys import usable_keys
from identity.tokens import LEEWAY_SECONDS

TIMEOUT_SECONDS = 5.0

Line = tuple[str, bool, str]  # what was looked at, whether it is well, and what was found


@dataclass(frozen=True, slots=True)
class Setup:
    """What the operator has set, as far as Clerk is concerned."""

    publishable_key: str | None
    secret_key: str | None
    api: ClerkApi | None
    jwks_url: str | None
    sign_in_url: str | None
    authorized_parties: frozenset[str]
    has_webhook_secret: bool


def examine(setup: Setup) -> Iterator[Line]:
    """Look at the keys, then ask Clerk with them."""
    yield _keys(setup)
    yield from _published(setup.jwks_url)
    yield _backend(setup.api)
    where = setup.sign_in_url
    yield ("clerk sign-in", where is not None, where or "set CLERK_SIGN_IN_URL")
    parties = ", ".join(sorted(setup.authorized_parties))
    yield ("clerk origins", True, parties or "any (CLERK_AUTHORIZED_PARTIES is not set)")
    is_on = setup.has_webhook_secret
    yield ("clerk webhook", True, "on" if is_on else "off (CLERK_WEBHOOK_SECRET is not set)")


def _keys(setup: Setup) -> Line:
    """Both keys, of one instance type."""
    if setup.publishable_key is None or setup.secret_key is None:
        return ("clerk keys", False, "set CLERK_PUBLISHABLE_KEY and CLERK_SECRET_KEY")
    kind = setup.publishable_key.split("_")[1]
    if setup.secret_key.split("_")[1:2] != [kind]:
        return ("clerk keys", False, f"pk_{kind} needs an sk_{kind} key")
    return ("clerk keys", True, "production instance" if kind == "live" else "development instance")


def _published(url: str | None) -> Iterator[Line]:
    """The keys that tokens are checked with, and by the same answer how our clocks agree."""
    if url is None:
        yield ("clerk jwks", False, "set CLERK_PUBLISHABLE_KEY")
        return
    try:
        answer = httpx.get(url, timeout=TIMEOUT_SECONDS, follow_redirects=True).raise_for_status()
        found = len(usable_keys(answer.json()))
    except Exception as err:  # whatever the client or an answer without sense raises
        yield ("clerk jwks", False, f"{type(err).__name__} at {url}")
        return
    yield ("clerk jwks", found > 0, f"{found} keys")
    yield _clock(answer.headers.get("Date"))


def _clock(date: str | None) -> Line:
    try:
        theirs = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return ("clock", True, "Clerk did not tell the time")
    ahead = (datetime.fromtimestamp(time.time(), UTC) - theirs).total_seconds()
    return ("clock", abs(ahead) <= LEEWAY_SECONDS, f"{ahead:+.0f} s from Clerk's")


def _backend(api: ClerkApi | None) -> Line:
    if api is None:
        return ("clerk api", False, "set CLERK_SECRET_KEY")
    try:
        api.users(0, 1)
    except (ProviderUnavailableError, UnknownUserError, UnusableAnswerError) as err:
        return ("clerk api", False, str(err))
    except Exception as err:  # whatever else the client raises means the same
        return (
            "clerk api",
            False,
            f"{type(err).__name__}: correct CLERK_SECRET_KEY, CLERK_API_URL",
        )
    return ("clerk api", True, "answers")
