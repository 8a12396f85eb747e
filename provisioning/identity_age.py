"""Decide when the identity provider is asked about a user again: a pure function."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from provisioning.identity_store import KnownIdentity
from provisioning.profiles import UserRow

UNVERIFIED_PAUSE = timedelta(seconds=60)  # while no verified address is known
RETRY_PAUSE = timedelta(minutes=5)  # after a lookup in the background without answer
AT_ONCE = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class NextLookup:
    """The next lookup of a user: not before `at`; `must_wait` if a request waits for it."""

    at: datetime
    must_wait: bool

    def is_due(self, now: datetime) -> bool:
        """Whether the lookup may be made now."""
        return now >= self.at


def next_lookup(user: KnownIdentity | UserRow, max_age: timedelta) -> NextLookup | None:
    """Decide when to look this user up again; None for never (docs/clerk.md).

    A request waits for the lookup while the user's address is absent or unverified, so that a
    pre-registered profile is found at that visit. Other users are looked up in the background.
    """
    if user.deleted_at is not None or user.blocked_at is not None:
        return None
    asked_at = user.identity_asked_at or AT_ONCE
    completed_at = user.identity_completed_at or AT_ONCE
    is_verified = (
        user.identity_completed_at is not None and bool(user.email) and user.email_verified
    )
    if is_verified:
        is_unanswered = asked_at > completed_at
        retry_at = asked_at + min(RETRY_PAUSE, max_age) if is_unanswered else AT_ONCE
        return NextLookup(max(completed_at + max_age, retry_at), must_wait=False)
    last_lookup = max(asked_at, completed_at)
    at = AT_ONCE if last_lookup == AT_ONCE else last_lookup + UNVERIFIED_PAUSE
    return NextLookup(at, must_wait=True)
