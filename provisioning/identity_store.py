"""What is stored of users' identities: read, claim and mark lookups at the identity provider."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import ProvisioningAttempt, User
from models.background import UNUSABLE_ANSWER
from provisioning.attempts import is_due

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


@dataclass(frozen=True, slots=True)
class KnownIdentity:
    """The stored identity of a user."""

    clerk_id: str
    name: str | None
    email: str | None
    email_verified: bool
    image_url: str | None
    blocked_at: datetime | None
    deleted_at: datetime | None
    identity_as_of: datetime | None
    identity_completed_at: datetime | None
    identity_asked_at: datetime | None

    def is_changed_by(self, new: Identity) -> bool:
        """Whether the provider's answer differs from the stored identity and is not older."""
        if self.identity_completed_at is None:
            return True
        is_older = (
            new.as_of is not None
            and self.identity_as_of is not None
            and new.as_of < self.identity_as_of
        )
        if is_older or new.is_unknown:
            return False
        is_new_text = any(
            text is not None and text != old
            for text, old in ((new.name, self.name), (new.image_url, self.image_url))
        )
        is_new_address = new.email is not None and new.email != self.email
        return is_new_text or is_new_address or bool(new.email_verified) != self.email_verified


# Columns of the table instead of the model: the ORM takes as long as the database for one row.
KNOWN_COLUMNS = [User.__table__.c[name] for name in KnownIdentity.__dataclass_fields__]
KNOWN_IDENTITY = select(*KNOWN_COLUMNS).where(User.__table__.c.clerk_id == bindparam("clerk_id"))


def known_identity(session: Session, clerk_id: str) -> KnownIdentity | None:
    """Return the stored identity of one user, without a lock; None for an unknown user."""
    values = {"clerk_id": clerk_id}
    row = session.connection().execute(KNOWN_IDENTITY, values).one_or_none()
    return None if row is None else KnownIdentity(*row)


def known_identities(session: Session, clerk_ids: Sequence[str]) -> dict[str, KnownIdentity]:
    """Return the stored identities of several users, by Clerk id."""
    rows = session.execute(select(*KNOWN_COLUMNS).where(User.clerk_id.in_(clerk_ids)))
    return {known.clerk_id: known for known in (KnownIdentity(*row) for row in rows)}


def claim_identity_lookup(
    session: Session, clerk_id: str, last_asked_at: datetime | None, now: datetime
) -> bool:
    """Claim a lookup of the user for the caller; return False if another caller was faster.

    `last_asked_at` is the value of `identity_asked_at` that the caller has read.
    """
    claimed = (
        update(User)
        .where(
            User.clerk_id == clerk_id,
            User.identity_asked_at.is_not_distinct_from(last_asked_at),
        )
        .values(identity_asked_at=now)
        .returning(User.id)
    )
    return session.scalars(claimed).one_or_none() is not None


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
    session.execute(
        update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=None)
    )


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
    """Insert a user whose ensure call failed, so that support finds them.

    A stored user is not changed.
    """
    statement = insert(User).values(
        clerk_id=identity.clerk_id,
        name=identity.name,
        email=identity.email,
        email_verified=bool(identity.email_verified),
        image_url=identity.image_url,
        login_method=identity.login_method,
        created_at=now,
        updated_at=now,
        last_signed_in=now,
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=[User.clerk_id]))
