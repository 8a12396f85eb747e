"""Read all users from the identity provider; apply identities that are unknown or newer."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import backoff
import structlog

from auth.clerk_calls import DirectoryPage, UserDirectory
from auth.errors import ProviderUnavailableError
from auth.identity import Identity
from core.database import background_transaction
from provisioning import identity_lookups
from provisioning.audit import Source
from provisioning.errors import DatabaseUnavailableError, ProvisioningError
from provisioning.service import ProvisioningService

log = structlog.get_logger(__name__)

PAGE_SIZE = 500  # the most that Clerk lists at a time
MOST_TRIES = 8  # spread over half a minute or more
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 60.0


@dataclass(slots=True)
class DirectoryCounts:
    """How many users were read, how many had a newer identity and were ensured, how many failed."""

    read: int = 0
    ensured: int = 0
    failed: int = 0


def sync_directory(
    provisioning: ProvisioningService, directory: UserDirectory, now: Callable[[], datetime]
) -> DirectoryCounts:
    """Ensure each user whose identity at the provider is newer than the stored one, page by page.

    A failure of one user is recorded as a failed attempt. Raises ProviderUnavailableError after
    `MOST_TRIES`, and DatabaseUnavailableError.
    """
    counts, page = DirectoryCounts(), _page(directory, 0)
    while page.size:
        for identity in _changed(page, now()):
            try:
                provisioning.ensure(identity, source=Source("cli"), now=now())
                counts.ensured += 1
            except DatabaseUnavailableError:
                raise
            except ProvisioningError as err:
                log.warning("directory_user_failed", error=type(err).__name__)
                counts.failed += 1
        counts.read += page.size
        page = _page(directory, counts.read)
    return counts


def _pause(err: ProviderUnavailableError) -> float:
    """Return the seconds until the next try: what the provider asks for, up to a limit."""
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
def _page(directory: UserDirectory, offset: int) -> DirectoryPage:
    return directory.page(offset, PAGE_SIZE)


def _changed(page: DirectoryPage, now: datetime) -> list[Identity]:
    """Return the users of a page who are new or changed; mark the others as unchanged now."""
    with background_transaction() as session:
        ids = [listed.clerk_id for listed in page.identities]
        known = identity_lookups.known_identities(session, ids)
        changed = [
            listed
            for listed in page.identities
            if identity_lookups.is_changed(known.get(listed.clerk_id), listed)
        ]
        unchanged = known.keys() - {listed.clerk_id for listed in changed}
        identity_lookups.mark_identity_unchanged(session, sorted(unchanged), now)
    return changed
