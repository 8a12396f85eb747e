"""Everybody in the provider's directory: also who came while there was no database to note them."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import backoff
import structlog

from extensions import background_transaction
from guarantee import Guarantee
from identity.directory import Directory, Page
from identity.errors import ProviderUnavailableError
from provisioning import people
from provisioning.audit import Entry
from provisioning.errors import DatabaseUnavailableError, ProvisioningError
from provisioning.identity import Identity

log = structlog.get_logger(__name__)

PAGE_SIZE = 500  # the most that Clerk lists at a time
MOST_TRIES = 8  # spread over half a minute or more
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 60.0


@dataclass(slots=True)
class RollCall:
    """How far it has come, in people."""

    read: int = 0
    ensured: int = 0
    failed: int = 0


def call_the_roll(
    guarantee: Guarantee, directory: Directory, now: Callable[[], datetime]
) -> RollCall:
    """Ensure everybody of whom not everything has been heard, a page at a time.

    Who cannot be helped is left to the attempts. Raises ProviderUnavailableError when the provider
    stays away, and DatabaseUnavailableError.
    """
    counts, page = RollCall(), _page(directory, 0)
    while page.size:
        for identity in _unheard(page):
            try:
                guarantee.take_word(identity, entry=Entry("cli"), now=now())
                counts.ensured += 1
            except DatabaseUnavailableError:
                raise
            except ProvisioningError as err:
                log.warning("roll_call_failed", error=type(err).__name__)
                counts.failed += 1
        counts.read += page.size
        page = _page(directory, counts.read)
    return counts


def _pause(err: ProviderUnavailableError) -> float:
    """As long as the provider has asked for, where it has."""
    seconds = PAUSE_SECONDS if err.wait_seconds is None else err.wait_seconds
    return min(seconds, LONGEST_PAUSE_SECONDS)


@backoff.on_exception(
    backoff.runtime,
    ProviderUnavailableError,
    value=_pause,
    max_tries=MOST_TRIES,
    jitter=None,
    logger=None,
)
def _page(directory: Directory, offset: int) -> Page:
    return directory.page(offset, PAGE_SIZE)


def _unheard(page: Page) -> list[Identity]:
    with background_transaction() as session:
        missing = people.not_yet_complete(session, [who.clerk_id for who in page.people])
    return [who for who in page.people if who.clerk_id in missing]
