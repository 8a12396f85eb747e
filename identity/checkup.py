"""Is Clerk set up, and does it answer? One line for each thing that going live needs."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from identity.clerk_client import ClerkClient
from identity.directory import Directory
from identity.errors import ProviderUnavailableError, UnusableAnswerError
from identity.keys import usable_keys
from identity.tokens import LEEWAY_SECONDS

Line = tuple[str, bool, str]  # what was looked at, whether it is well, and what was found


@dataclass(frozen=True, slots=True)
class Setup:
    """What the operator has set, as far as Clerk is concerned."""

    publishable_key: str | None
    secret_key: str | None
    client: ClerkClient | None
    directory: Directory | None
    jwks_url: str | None
    sign_in_url: str | None
    authorized_parties: frozenset[str]
    has_webhook_secret: bool


def examine(setup: Setup) -> Iterator[Line]:
    """Look at the keys, then ask Clerk with them."""
    yield _keys(setup)
    yield from _published(setup)
    yield _backend(setup.directory)
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


def _published(setup: Setup) -> Iterator[Line]:
    """The keys that tokens are checked with, and by the same host how our clocks agree."""
    client, url = setup.client, setup.jwks_url
    if client is None or url is None:
        yield ("clerk jwks", False, "set CLERK_PUBLISHABLE_KEY or CLERK_JWKS_URL")
        return
    try:
        document, date = client.dated_key_set()
    except (ProviderUnavailableError, UnusableAnswerError) as err:
        yield ("clerk jwks", False, f"{err} at {url}")
        return
    found = len(usable_keys(document))
    yield ("clerk jwks", found > 0, f"{found} keys")
    yield _clock(date)


def _clock(date: str | None) -> Line:
    try:
        theirs = parsedate_to_datetime(date or "").astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return ("clock", True, "Clerk did not tell the time")
    ahead = (datetime.fromtimestamp(time.time(), UTC) - theirs).total_seconds()
    return ("clock", abs(ahead) <= LEEWAY_SECONDS, f"{ahead:+.0f} s from Clerk's")


def _backend(directory: Directory | None) -> Line:
    if directory is None:
        return ("clerk api", False, "set CLERK_SECRET_KEY")
    try:
        directory.page(0, 1)
    except ProviderUnavailableError as err:
        return ("clerk api", False, str(err))
    except Exception as err:  # whatever else the client raises means the same
        return (
            "clerk api",
            False,
            f"{type(err).__name__}: correct CLERK_SECRET_KEY, CLERK_API_URL",
        )
    return ("clerk api", True, "answers")
