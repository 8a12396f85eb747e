"""In which order a pass goes through the people it finds: linkable, once failed, the rest."""

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

# Whoever signs in while they are in a batch waits for its commit, and a login gives up waiting for
# a lock after a third of a second.
AIM_SECONDS = 0.1
FIRST = 1_000
SMALLEST = 100  # below, a batch costs more than the people in it


@dataclass(slots=True)
class BatchSizer:
    """The size of the next batch, from how long the ones before took; `most` is never exceeded.

    `monotonic` is a clock in seconds.
    """

    most: int
    monotonic: Callable[[], float]
    size: int = FIRST

    def __post_init__(self) -> None:
        self.size = min(self.size, self.most)

    def measure(self, batch: Callable[[], None]) -> None:
        """See a batch of the present size through, and draw the conclusion for the next one."""
        started = self.monotonic()
        batch()
        self.size = self._after(self.monotonic() - started)

    def _after(self, seconds: float) -> int:
        """What would have taken as long as we aim at, but at most double and at least half."""
        most = min(self.most, self.size * 2)
        least = min(self.most, max(SMALLEST, self.size // 2))
        return (
            most if seconds <= 0 else max(least, min(most, int(self.size * AIM_SECONDS / seconds)))
        )


MOST_LOOKUPS = 200  # users in one run; the provider's leave to ask ends before
SEEN_WITHIN = timedelta(days=30)  # users who have not visited since are not asked about again
ROWS_AT_A_TIME = 20_000

Rows = TypeVar("Rows")


@dataclass(frozen=True, slots=True)
class Worklist:
    """The work of one pass, read a batch at a time, so that memory does not grow with the people.

    Who might link comes first: afterwards nobody is left to whom the set-based step would give an
    automatic profile although another one waits. `due_at` is when records count as due; None takes
    them all, because who sweeps by hand has mended something. `started_at`: when the run began.
    """

    transaction: Transaction
    batch_size: int
    started_at: datetime
    due_at: datetime | None

    def count_missing(self) -> int:
        """How many are due a profile and have no record of failure."""
        return self._read(missing_profiles.count_missing)

    def count_failed_users(self) -> int:
        """How many have a record that is due."""
        return self._read(attempts.count_due, self.due_at)

    def linkable_users(self) -> Iterator[str]:
        """Clerk ids of people for whom a profile waits."""
        after = 0
        while waiting := self._read(missing_profiles.next_waiting, after, self.batch_size):
            yield from self._read(missing_profiles.linkable_users, waiting)
            after = waiting[1]

    def groups(self, size: int) -> Iterator[list[str]]:
        """The same, so many at a time."""
        found = self.linkable_users()
        while group := list(islice(found, size)):
            yield group

    def ranges(self, pace: BatchSizer) -> Iterator[Range]:
        """Ranges of user ids that together hold everybody, each as large as the pace then is."""
        after = 0
        while ids := self._read(missing_profiles.next_range, after, pace.size):
            yield ids
            after = ids[1]

    def failed_users(self) -> Iterator[str]:
        """Clerk ids of those whose profile is to be tried again, the longest untried first."""
        after: Position | None = None
        while batch := self._failed_after(after):
            yield from (clerk_id for _, clerk_id in batch)
            after = batch[-1][0]

    def incomplete(self) -> list[str]:
        """Clerk ids of those to ask the provider about, in turn."""
        return self._read(queries.incomplete_users, self.due_at, MOST_LOOKUPS)

    def longest_unasked(self, max_age: timedelta) -> Iterator[str]:
        """Clerk ids of users whose identity is older than that, the oldest first."""
        after: queries.Position | None = None
        while True:
            with self.transaction() as session:
                found, after = queries.longest_unasked(
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
        """Have the next run ask about others first."""
        self._read(queries.mark_identity_asked, clerk_id, self.started_at)

    def _failed_after(self, after: Position | None) -> list[tuple[Position, str]]:
        with self.transaction() as session:
            return attempts.due(
                session,
                now=self.due_at,
                before=self.started_at,
                after=after,
                limit=self.batch_size,
            )

    def _read(self, question: Callable[..., Rows], *values: object) -> Rows:
        with self.transaction() as session:
            return question(session, *values)
