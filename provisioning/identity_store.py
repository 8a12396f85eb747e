"""What is stored of users' identities, and when they are looked up at the identity provider."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import ProvisioningAttempt, User
from models.background import UNUSABLE_ANSWER
from provisioning.attempts import is_due
from provisioning.profiles import USER_COLUMNS, UserRow

# Of a user: the identity is incomplete, and access is not denied.
IS_INCOMPLETE = (
    User.identity_completed_at.is_(None),
    User.deleted_at.is_(None),
    User.blocked_at.is_(None),
)
# For the transaction: read the rows in the order of the index. A sort of a million takes a second.
DISABLE_SORT = text("SELECT set_config('enable_sort', 'off', true)")
# Of a user: the identity is complete and may be refreshed (users_refresh_idx).
IS_REFRESHABLE = (
    User.identity_completed_at.is_not(None),
    User.deleted_at.is_(None),
    User.blocked_at.is_(None),
)
LAST_ASKED: ColumnElement[datetime] = func.greatest(
    User.identity_asked_at, User.identity_completed_at
)
LookupPosition = tuple[datetime, int]  # when last asked about, and the user's id


# Columns of the table instead of the model: the ORM takes as long as the database for one row.
KNOWN_IDENTITY = select(*USER_COLUMNS).where(User.__table__.c.clerk_id == bindparam("clerk_id"))
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


def next_lookup(user: UserRow, max_age: timedelta) -> NextLookup | None:
    """Decide when to look this user up again; None for never (docs/clerk.md).

    A request waits for the lookup while the user's address is absent or unverified, so that a
    pre-registered profile is found at that visit. Other users are looked up in the background.
    """
    if user.deleted_at is not None or user.blocked_at is not None:
        return None
    asked_at = user.identity_asked_at or AT_ONCE
    completed_at = user.identity_completed_at or AT_ONCE
    if user.identity_completed_at is not None and user.email and user.email_verified:
        is_unanswered = asked_at > completed_at
        retry_at = asked_at + min(RETRY_PAUSE, max_age) if is_unanswered else AT_ONCE
        return NextLookup(max(completed_at + max_age, retry_at), must_wait=False)
    last_lookup = max(asked_at, completed_at)
    at = AT_ONCE if last_lookup == AT_ONCE else last_lookup + UNVERIFIED_PAUSE
    return NextLookup(at, must_wait=True)


def known_identity(session: Session, clerk_id: str) -> UserRow | None:
    """Return the stored identity of one user, without a lock; None for an unknown user."""
    values = {"clerk_id": clerk_id}
    found = session.connection().execute(KNOWN_IDENTITY, values)
    row: Sequence[Any] | None = found.one_or_none()
    return None if row is None else UserRow(*row)


def known_identities(session: Session, clerk_ids: Sequence[str]) -> dict[str, UserRow]:
    """Return the stored identities of several users, by Clerk id."""
    found = select(*USER_COLUMNS).where(User.clerk_id.in_(clerk_ids))
    rows: Iterable[Sequence[Any]] = session.execute(found)
    return {user.clerk_id: user for user in (UserRow(*row) for row in rows)}


def is_changed(user: UserRow | None, new: Identity) -> bool:
    """Whether the provider's answer differs from the stored identity and is not older."""
    if user is None or user.identity_completed_at is None:
        return True
    stored_as_of = user.identity_as_of
    if new.as_of is not None and stored_as_of is not None and new.as_of < stored_as_of:
        return False
    if new.is_unknown:
        return False
    texts = ((new.name, user.name), (new.image_url, user.image_url), (new.email, user.email))
    is_new_text = any(text is not None and text != old for text, old in texts)
    return is_new_text or bool(new.email_verified) != user.email_verified


def claim_lookup_if_due(
    session: Session, user: UserRow, now: datetime, max_age: timedelta, *, must_wait: bool = False
) -> bool:
    """Claim a lookup of the user for the caller; return False if none is due.

    Also False if another caller was faster: `identity_asked_at` has changed since the user was
    read. With `must_wait`, only a lookup is claimed that a request waits for.
    """
    lookup = next_lookup(user, max_age)
    if lookup is None or not lookup.is_due(now) or (must_wait and not lookup.must_wait):
        return False
    is_unclaimed = User.identity_asked_at.is_not_distinct_from(user.identity_asked_at)
    claimed = update(User).where(User.clerk_id == user.clerk_id, is_unclaimed)
    found = session.scalars(claimed.values(identity_asked_at=now).returning(User.id))
    return found.one_or_none() is not None


def mark_identity_unchanged(session: Session, clerk_ids: Sequence[str], now: datetime) -> None:
    """Mark the identities of these users as complete at `now`, without a change."""
    session.execute(
        update(User)
        .where(User.clerk_id.in_(clerk_ids))
        .values(identity_completed_at=now)
        .execution_options(synchronize_session=False)
    )


def mark_identity_incomplete(session: Session, clerk_id: str) -> None:
    """Mark the identity of this user as incomplete, so that the sweep looks it up."""
    incomplete = update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=None)
    session.execute(incomplete)


def mark_identity_asked(session: Session, clerk_id: str, now: datetime) -> None:
    """Store the time of the last lookup of this user, so that the sweep looks others up first."""
    session.execute(update(User).where(User.clerk_id == clerk_id).values(identity_asked_at=now))


def incomplete_users(session: Session, now: datetime | None, limit: int) -> list[str]:
    """Return Clerk ids of users with an incomplete identity, those never looked up first.

    Users with a failed attempt of their profile are excluded: the attempt is retried. Users whose
    answer was unusable are included once that attempt is due; without `now`, at any time.
    """
    session.execute(DISABLE_SORT)
    record = ProvisioningAttempt
    is_about_identity = record.error_class == UNUSABLE_ANSWER
    incomplete = (
        select(User.clerk_id)
        .outerjoin(record, record.clerk_id == User.clerk_id)
        .where(*IS_INCOMPLETE, or_(record.id.is_(None), and_(is_about_identity, *is_due(now))))
        .order_by(User.identity_asked_at.nulls_first(), User.id.desc())
    )
    return list(session.scalars(incomplete.limit(limit)))


def users_to_refresh(
    session: Session,
    *,
    before: datetime,
    seen_after: datetime,
    after: LookupPosition | None,
    limit: int,
) -> tuple[list[str], LookupPosition | None]:
    """Return Clerk ids of users to look up again, and the position to continue from.

    The next `limit` rows in the order of the last lookup are read; the position is None at the end.
    Returned are users who were last looked up or completed at `before` or earlier, and who visited
    at `seen_after` or later. An index has this order, so that a call reads at most `limit` rows and
    sorts none.
    """
    session.execute(DISABLE_SORT)
    position = (LAST_ASKED, User.id)
    rows = [*IS_REFRESHABLE, before >= LAST_ASKED]
    if after is not None:
        rows.append(tuple_(*position) > tuple_(*after))
    last = select(*position).where(*rows).order_by(*position).offset(limit - 1).limit(1)
    end = session.execute(last).one_or_none()
    if end is not None:
        rows.append(tuple_(*position) <= tuple_(*end))
    seen = select(User.clerk_id).where(*rows, User.last_signed_in >= seen_after)
    return list(session.scalars(seen.order_by(*position))), (end and (end[0], end[1]))


def record_user(session: Session, identity: Identity, now: datetime) -> None:
    """Insert a user whose ensure call failed, so that support finds them, unless one is stored."""
    copied = ("clerk_id", "name", "email", "image_url", "login_method")
    values = {name: getattr(identity, name) for name in copied}
    values |= dict.fromkeys(("created_at", "updated_at", "last_signed_in"), now)
    statement = insert(User).values(**values, email_verified=bool(identity.email_verified))
    session.execute(statement.on_conflict_do_nothing(index_elements=[User.clerk_id]))
