"""The users of a sweep: who should have a profile and has none, and in which order they are read.

The functions compute the difference from the tables each time. `SweepUsers` reads it in pages:
linkable users, users by id range, failed, incomplete, and oldest identities.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, or_, select, text
from sqlalchemy.orm import Session, aliased

from core.database import Transaction
from models import Mentorado, ProvisioningAttempt, User
from models.background import UNUSABLE_ANSWER
from provisioning import attempts, identity_lookups
from provisioning.attempts import AttemptPosition
from provisioning.profiles import SHOULD_HAVE_PROFILE, Unlinked, has_unlinked_match

# The login of a user in a batch waits for its commit, and the login's wait for a lock ends after
# a third of a second.
TARGET_SECONDS = 0.1
FIRST_SIZE = 1_000
SMALLEST_SIZE = 100  # in smaller batches the fixed cost exceeds that of the rows
MOST_LOOKUPS = 200  # users in one run; the call budget of the provider ends before
SEEN_WITHIN = timedelta(days=30)  # identities of users without a later visit are not refreshed
ROWS_AT_A_TIME = 20_000

Range = tuple[int, int]  # ids, the first excluded, the last included
Bounds = tuple[Any, Any]  # the same, or its bind parameters in a statement

OtherUnlinked = aliased(Mentorado)  # another unlinked profile with the same address
# Of an unlinked profile: it has no owner and has an address.
HAS_UNLINKED_ADDRESS = (Unlinked.user_id.is_(None), Unlinked.email.is_not(None))
# Of a user: it should have a profile, and has no failed attempt.
IS_CANDIDATE = (
    *SHOULD_HAVE_PROFILE,
    ~exists().where(
        ProvisioningAttempt.clerk_id == User.clerk_id,
        ProvisioningAttempt.error_class != UNUSABLE_ANSWER,
    ),
)

# If the table of profiles was empty when it was last analysed, PostgreSQL would choose a nested
# loop that is quadratic in the number of users.
NO_NESTED_LOOP = text("SELECT set_config('enable_nestloop', 'off', true)")
NEXT_IDS = (
    select(User.id)
    .where(User.id > bindparam("after_id"))
    .order_by(User.id)
    .limit(bindparam("size"))
    .subquery()
)
LAST_OF_NEXT = select(func.max(NEXT_IDS.c.id))


def missing_since(session: Session, *, invited_only: bool) -> tuple[int, datetime | None]:
    """Count the users without a profile who should have one, and find when the first was created.

    Users with a failed attempt are left out. Users who wait while the auto-create switch is off are
    included; with `invited_only`, those without an unlinked profile are not.
    """
    session.execute(NO_NESTED_LOOP)
    missing = (
        select(func.count(), func.min(User.created_at))
        .select_from(User)
        .where(*IS_CANDIDATE, ~exists().where(Mentorado.user_id == User.id))
    )
    if invited_only:
        missing = missing.where(has_unlinked_match())
    return session.execute(missing).one()


def count_range(session: Session, ids: Range) -> int:
    """Count the users of a range who should get a profile and need no decision."""
    due = select(func.count()).select_from(User).where(*needs_no_decision(ids))
    return session.scalars(due).one()


def first_in_range(session: Session, ids: Range, limit: int) -> Sequence[tuple[int, str]]:
    """Return ids and Clerk ids of the first users that `count_range` counts."""
    due = select(User.id, User.clerk_id).where(*needs_no_decision(ids))
    return session.execute(due.order_by(User.id).limit(limit)).all()


def linkable_users(session: Session, unlinked_ids: Range) -> list[str]:
    """Return the Clerk ids of users with the verified address of an unlinked profile in the range.

    These users have no profile, or an automatic one that could be merged into the unlinked one.
    """
    is_same = func.normalized_address(User.email) == func.normalized_address(Unlinked.email)
    has_other_match = exists().where(
        OtherUnlinked.user_id.is_(None),
        OtherUnlinked.id != Unlinked.id,
        func.normalized_address(OtherUnlinked.email) == func.normalized_address(Unlinked.email),
    )
    is_mergeable = and_(Mentorado.is_unedited, ~has_other_match)
    found = session.scalars(
        select(User.clerk_id)
        .select_from(Unlinked)
        .join(User, and_(User.email_verified, is_same))
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .where(*is_within(Unlinked.id, unlinked_ids), *HAS_UNLINKED_ADDRESS)
        .where(*IS_CANDIDATE, or_(Mentorado.id.is_(None), is_mergeable))
        .order_by(Unlinked.id, User.id)
    )
    return list(dict.fromkeys(found))


def is_due_within(ids: Bounds) -> tuple[ColumnElement[bool], ...]:
    """Of a user: in that range, should have a profile and has none.

    The range restricts the profiles as well; otherwise each batch would read all of them.
    """
    own = exists().where(Mentorado.user_id == User.id, *is_within(Mentorado.user_id, ids))
    return (*is_within(User.id, ids), *IS_CANDIDATE, ~own)


def is_within(column: Any, ids: Bounds) -> tuple[ColumnElement[bool], ...]:
    """Of a column of ids: in that range."""
    low, high = ids
    return (column > low, column <= high)


def needs_no_decision(ids: Range) -> tuple[ColumnElement[bool], ...]:
    """Of a user: due, and no unlinked profile has its verified address."""
    return (*is_due_within(ids), ~has_unlinked_match())


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
        """Run a batch, and set the size of the next: double at most, and half at least."""
        started = self.monotonic()
        batch()
        seconds = self.monotonic() - started
        most = min(self.most, self.size * 2)
        least = min(self.most, max(SMALLEST_SIZE, self.size // 2))
        size = int(self.size * TARGET_SECONDS / seconds) if seconds > 0 else most
        self.size = max(least, min(most, size))


@dataclass(frozen=True, slots=True)
class SweepUsers:
    """The users of one run, read a batch at a time, so that memory does not grow with the users.

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
        with self.transaction() as session:
            return missing_since(session, invited_only=False)[0]

    def count_failed(self) -> int:
        """Count the failed attempts that are due."""
        with self.transaction() as session:
            return attempts.count_due(session, self.due_at)

    def linkable(self) -> Iterator[str]:
        """Yield the Clerk ids of users whose address has a pre-registered profile."""
        after = 0
        unlinked = select(Unlinked.id).where(*HAS_UNLINKED_ADDRESS).order_by(Unlinked.id)
        while True:
            page = unlinked.where(Unlinked.id > after).limit(self.batch_size).subquery()
            with self.transaction() as session:
                last = session.scalars(select(func.max(page.c.id))).one()
                found = [] if last is None else linkable_users(session, (after, last))
            yield from found
            if last is None:
                return
            after = last

    def groups(self, size: int) -> Iterator[list[str]]:
        """Yield the linkable users in groups of `size`."""
        users = self.linkable()
        while group := list(islice(users, size)):
            yield group

    def ranges(self, sizer: BatchSizer) -> Iterator[Range]:
        """Yield ranges of ids that cover all users, each of the sizer's current size."""
        after = 0
        while True:
            with self.transaction() as session:
                parameters = {"after_id": after, "size": sizer.size}
                last = session.scalars(LAST_OF_NEXT, parameters).one()
            if last is None:
                return
            yield after, last
            after = last

    def failed(self) -> Iterator[str]:
        """Yield the Clerk ids of failed attempts to retry, the one tried longest ago first."""
        after: AttemptPosition | None = None
        while True:
            with self.transaction() as session:
                batch = attempts.due_attempts(
                    session,
                    now=self.due_at,
                    before=self.started_at,
                    after=after,
                    limit=self.batch_size,
                )
            if not batch:
                return
            yield from (clerk_id for _, clerk_id in batch)
            after = batch[-1][0]

    def incomplete(self) -> list[str]:
        """Return the Clerk ids of users with an incomplete identity, in order of lookup."""
        with self.transaction() as session:
            return identity_lookups.incomplete_users(session, self.due_at, MOST_LOOKUPS)

    def longest_unasked(self, max_age: timedelta) -> Iterator[str]:
        """Yield the Clerk ids of users whose identity is older than `max_age`, oldest first."""
        after: identity_lookups.LookupPosition | None = None
        while True:
            with self.transaction() as session:
                found, after = identity_lookups.users_to_refresh(
                    session,
                    before=self.started_at - max_age,
                    seen_after=self.started_at - SEEN_WITHIN,
                    after=after,
                    limit=ROWS_AT_A_TIME,
                )
            yield from found
            if after is None:
                return
