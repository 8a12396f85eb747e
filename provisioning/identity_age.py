"""When is the identity provider to be asked about a user again? A decision without any effect."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from provisioning.profiles import UserRow
from provisioning.queries import KnownIdentity

UNVERIFIED_PAUSE = timedelta(seconds=60)  # while no verified address is known
RETRY_PAUSE = timedelta(minutes=5)  # after a question in the background that was not answered
AT_ONCE = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """The next question about a user: not before `at`; `must_wait` if a request waits for it."""

    at: datetime
    must_wait: bool

    def is_due(self, now: datetime) -> bool:
        """Whether it may be asked now."""
        return now >= self.at


def next_question(user: KnownIdentity | UserRow, max_age: timedelta) -> Question | None:
    """Decide when to ask about this user again; None for never (docs/clerk.md).

    A request waits for the answer while the user's address is absent or unverified, so that a
    pre-registered profile is found at that visit. All others are asked about beside the request.
    """
    if user.deleted_at is not None or user.blocked_at is not None:
        return None
    asked_at = user.identity_asked_at or AT_ONCE
    completed_at = user.identity_completed_at or AT_ONCE
    is_proven = user.identity_completed_at is not None and bool(user.email) and user.email_verified
    if is_proven:
        is_unanswered = asked_at > completed_at
        retry_at = asked_at + min(RETRY_PAUSE, max_age) if is_unanswered else AT_ONCE
        return Question(max(completed_at + max_age, retry_at), must_wait=False)
    last = max(asked_at, completed_at)
    return Question(AT_ONCE if last == AT_ONCE else last + UNVERIFIED_PAUSE, must_wait=True)
