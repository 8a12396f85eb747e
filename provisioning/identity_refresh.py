"""Look identities up at the identity provider, within a request or in the background.

A token with all claims is the newest identity and needs no lookup. Otherwise:

1. A user without a verified address, or not stored yet, is looked up within the request, at most
   once a minute (`complete_identity`).
2. All others are looked up in a worker thread once their identity is older than
   CLERK_IDENTITY_MAX_AGE_SECONDS (`BackgroundRefresh`); the next request sees the result.

A conditional UPDATE of `users.identity_asked_at` claims each lookup, so that only one process makes
it, and repeats it only after a pause.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from auth.clerk_calls import UserDirectory
from auth.errors import ProviderUnavailableError, UnusableAnswerError
from auth.identity import Identity
from core import deadlines
from core.database import transaction
from provisioning.errors import ProvisioningError
from provisioning.identity_store import claim_lookup_if_due, known_identity

log = structlog.get_logger(__name__)

LOOKUP_SECONDS = 0.8  # of a request; after that it goes on without an answer
SPARE_SECONDS = 0.8  # of a request, for the database afterwards
READ_SECONDS = 0.45  # for finding out whether a lookup is due
WORKERS = 2
MAX_PENDING = 100  # users; others are looked up at a later visit


@dataclass(frozen=True, slots=True)
class LookupResult:
    """An identity, completed by the provider's answer where it was asked.

    `is_unanswered`: the provider was asked and gave no usable answer. `is_unavailable`: it gave no
    answer at all, so that the sweep looks the user up later.
    """

    identity: Identity
    is_unanswered: bool = False
    is_unavailable: bool = False


def complete_identity(
    directory: UserDirectory, identity: Identity, now: datetime, max_age: timedelta
) -> LookupResult:
    """Return the incomplete identity of a token, completed by the provider where that is due.

    No transaction is open during the lookup. Without a usable answer in time the identity is
    returned unchanged, and the sweep completes it later.
    """
    must_look_up, is_new = _claim(identity.clerk_id, now, max_age)
    if not must_look_up:
        return LookupResult(identity)
    left = deadlines.seconds_left()
    wait = LOOKUP_SECONDS if left is None else max(0.0, min(LOOKUP_SECONDS, left - SPARE_SECONDS))
    try:
        found = directory.look_up(identity.clerk_id, wait_seconds=wait, is_new=is_new)
    except (ProviderUnavailableError, UnusableAnswerError) as err:
        log.warning("identity_not_completed", reason=str(err))
        is_unavailable = isinstance(err, ProviderUnavailableError)
        return LookupResult(identity, is_unanswered=True, is_unavailable=is_unavailable)
    return LookupResult(identity.merged_with(found))


def _claim(clerk_id: str, now: datetime, max_age: timedelta) -> tuple[bool, bool]:
    """Return whether this request must look the user up and wait, and whether the user is new.

    Without a database no lookup is made. Read and claim are transactions of their own.
    """
    try:
        with transaction(READ_SECONDS, is_single_statement=True) as session:
            known = known_identity(session, clerk_id)
            if known is None:
                return True, True
            return claim_lookup_if_due(session, known, now, max_age, must_wait=True), False
    except SQLAlchemyError:
        return False, False


class BackgroundRefresh:
    """Looks users up in worker threads while their requests go on.

    `refresh` looks one user up by Clerk id where that is due, and applies the answer. It runs in an
    `app_context`.
    """

    def __init__(
        self,
        refresh: Callable[[str, datetime], None],
        app_context: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._refresh, self._app_context = refresh, app_context
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="identity-refresh")
        self._pending: set[str] = set()
        self._lock = threading.Lock()

    @property
    def is_idle(self) -> bool:
        """Whether no lookup is queued or running."""
        return not self._pending

    def start(self, clerk_id: str, now: datetime) -> None:
        """Queue a lookup of this user, unless one is pending or too many are."""
        with self._lock:
            if clerk_id in self._pending or len(self._pending) >= MAX_PENDING:
                return
            self._pending.add(clerk_id)
        try:
            self._pool.submit(self._run, clerk_id, now)
        except RuntimeError:  # the process is ending
            self._end(clerk_id)

    def _run(self, clerk_id: str, now: datetime) -> None:
        try:
            with self._app_context():
                self._refresh(clerk_id, now)
        except (ProvisioningError, SQLAlchemyError) as err:
            log.warning("identity_not_refreshed", reason=type(err).__name__)
        except Exception:  # a thread pool would not report it
            log.exception("identity_not_refreshed")
        finally:
            self._end(clerk_id)

    def _end(self, clerk_id: str) -> None:
        with self._lock:
            self._pending.discard(clerk_id)
