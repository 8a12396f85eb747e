"""Read the users of a sweep in pages: linkable, by id range, failed, incomplete, oldest."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from core.database import Transaction
from provisioning import attempts, queries
from provisioning.attempts import Position
from sweep import missing_profiles
from sweep.missing_profiles import Range

# The login of a user in a batch waits for its commit, and the login's wait for a lock ends after
# a third of a second.
TARGET_SECONDS = 0.1
FIRST_SIZE = 1_000
SMALLEST_SIZE = 100  # in smaller batches the fixed cost exceeds that of the rows


@dataclass(slots=True)
class BatchSizer:
    """Adapts the size of the next batch to the time of the last one, up to `most`.

    `monotonic` returns seconds.
    """

    most: int
    monotonic: Callable[[], float]
    size: int = FIRST_SIZE

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def measure(self, batch: Callable[[], None]) -> None:
        """Run a batch of the current size, and set the size of the next one by its duration."""
        started = self.monotonic()
        batch()
        self.size = self._next_size(self.monotonic() - started)

    def _next_size(self, seconds: float) -> int:
        """Return the size that would take `TARGET_SECONDS`; at most double and at least half."""
        most = min(self.most, self.size * 2)
        least = min(self.most, max(SMALLEST_SIZE, self.size // 2))
        if seconds <= 0:
            return most
        return max(least, min(most, int(self.size * TARGET_SECONDS / seconds)))


MOST_LOOKUPS = 200  # users in one run; the call budget of the provider ends before
SEEN_WITHIN = timedelta(days=30)  # identities of users without a later visit are not refreshed
ROWS_AT_A_TIME = 20_000

Rows = TypeVar("Rows")


@dataclass(frozen=True, slots=True)
class Worklist:
    """The work of one run, read a batch at a time, so that memory does not grow with the users.

    Linkable users come first. Otherwise the set-based step would create an automatic profile for a
    user with a pre-registered one. Failed attempts are due at `due_at`; None takes all of them,
    because an operator who sweeps by command has corrected the cause. `started_at` is the run's.
    """

    transaction: Transaction
    batch_size: int
    started_at: datetime
    due_at: datetime | None

    def count_missing(self) -> int:
        """Count the users without a profile and without a failed attempt."""
        return self._read(missing_profiles.count_missing)

    def count_failed_users(self) -> int:
        """Count the failed attempts that are due."""
        return self._read(attempts.count_due, self.due_at)

    def linkable_users(self) -> Iterator[str]:
        """Yield the Clerk ids of users whose address has a pre-registered profile."""
        after = 0
        while ids := self._read(missing_profiles.next_unlinked_range, after, self.batch_size):
            yield from self._read(missing_profiles.linkable_users, ids)
            after = ids[1]

    def groups(self, size: int) -> Iterator[list[str]]:
        """Yield the linkable users in groups of `size`."""
        users = self.linkable_users()
        while group := list(islice(users, size)):
            yield group

    def ranges(self, sizer: BatchSizer) -> Iterator[Range]:
        """Yield ranges of ids that cover all users, each of the sizer's current size."""
        after = 0
        while ids := self._read(missing_profiles.next_range, after, sizer.size):
            yield ids
            after = ids[1]

    def failed_users(self) -> Iterator[str]:
        """Yield the Clerk ids of failed attempts to retry, the one tried longest ago first."""
        after: Position | None = None
        while batch := self._next_failed(after):
            yield from (clerk_id for _, clerk_id in batch)
            after = batch[-1][0]

    def incomplete(self) -> list[str]:
        """Return the Clerk ids of users with an incomplete identity, in order of lookup."""
        return self._read(queries.incomplete_users, self.due_at, MOST_LOOKUPS)

    def longest_unasked(self, max_age: timedelta) -> Iterator[str]:
        """Yield the Clerk ids of users whose identity is older than `max_age`, oldest first."""
        after: queries.Position | None = None
        while True:
            with self.transaction() as session:
                found, after = queries.users_to_refresh(
                    session,
                    before=self.started_at - max_age,
                    seen_after=self.started_at - SEEN_WITHIN,
                    after=after,
                    limit=ROWS_AT_A_TIME,
                )
            yield from found
            if after is None:
                return

    def note_unanswered(self, clerk_id: str) -> None:
        """Move a user to the end of the lookup order of the next run."""
        self._read(queries.mark_identity_asked, clerk_id, self.started_at)

    def _next_failed(self, after: Position | None) -> list[tuple[Position, str]]:
        with self.transaction() as session:
            return attempts.due_attempts(
                session,
                now=self.due_at,
                before=self.started_at,
                after=after,
                limit=self.batch_size,
            )

    def _read(self, query: Callable[..., Rows], *values: object) -> Rows:
        with self.transaction() as session:
            return query(session, *values)
