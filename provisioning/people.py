"""Users as known: whose identity is incomplete or old, and users who could not be provisioned."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import ProvisioningAttempt, User
from models.provisioning_attempt import UNUSABLE_ANSWER
from provisioning.attempts import is_due
from provisioning.identity import Identity

# Of a user: somebody waits for what the provider may tell.
IS_INCOMPLETE = (
    User.identity_completed_at.is_(None),
    User.deleted_at.is_(None),
    User.blocked_at.is_(None),
)
# The index has them in order: sorting all of them would take a second for a million. For as long as
# the transaction lasts.
IN_ORDER = text("SELECT set_config('enable_sort', 'off', true)")
# Of a user: the identity is complete, and may be asked for again (users_refresh_idx).
IS_REFRESHABLE = (
    User.identity_completed_at.is_not(None),
    User.deleted_at.is_(None),
    User.blocked_at.is_(None),
)
LAST_ASKED: ColumnElement[datetime] = func.greatest(
    User.identity_asked_at, User.identity_completed_at
)
Position = tuple[datetime, int]  # when last asked about, and the user's id


@dataclass(frozen=True, slots=True)
class KnownIdentity:
    """What is stored of a user's identity."""

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
        """Whether what the provider answers is newer than this."""
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


KNOWN_COLUMNS = [getattr(User, name) for name in KnownIdentity.__dataclass_fields__]


def known_identity(session: Session, clerk_id: str) -> KnownIdentity | None:
    """What is stored of one user's identity, without a lock; None for an unknown user."""
    row = session.execute(select(*KNOWN_COLUMNS).where(User.clerk_id == clerk_id)).one_or_none()
    return None if row is None else KnownIdentity(*row)


def known_identities(session: Session, clerk_ids: Sequence[str]) -> dict[str, KnownIdentity]:
    """The same of several users, by Clerk id."""
    rows = session.execute(select(*KNOWN_COLUMNS).where(User.clerk_id.in_(clerk_ids)))
    return {known.clerk_id: known for known in (KnownIdentity(*row) for row in rows)}


def claim_question(
    session: Session, clerk_id: str, last_asked_at: datetime | None, now: datetime
) -> bool:
    """Note that the caller asks the provider about a user now; False if another was faster.

    `last_asked_at` is what the caller has read of `identity_asked_at`.
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


def is_complete(session: Session, clerk_id: str) -> bool:
    """Whether everything the provider knows of this person has been heard."""
    heard = select(User.id).where(
        User.clerk_id == clerk_id, User.identity_completed_at.is_not(None)
    )
    return session.scalars(heard).one_or_none() is not None


def note_unchanged(session: Session, clerk_ids: Sequence[str], now: datetime) -> None:
    """Note that the identities of these users are what the provider has just answered."""
    them = User.clerk_id.in_(clerk_ids)
    session.execute(
        update(User)
        .where(them)
        .values(identity_completed_at=now)
        .execution_options(synchronize_session=False)
    )


def ask_again(session: Session, clerk_id: str) -> None:
    """Note that the sweep is to ask about this user: what is known may be old."""
    session.execute(
        update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=None)
    )


def note_asked(session: Session, clerk_id: str, now: datetime) -> None:
    """Note that the provider was asked about this user, so that the sweep asks about others."""
    session.execute(update(User).where(User.clerk_id == clerk_id).values(identity_asked_at=now))


def incomplete(session: Session, now: datetime | None, limit: int) -> list[str]:
    """Clerk ids of users to ask the provider about, those first whom it was not asked about yet.

    A user whose profile could not be made is a case for the attempts; one about whom the answer
    could not be used is asked about when that is due again, without `now` at any time.
    """
    session.execute(IN_ORDER)
    record = ProvisioningAttempt
    is_about_identity = record.error_class == UNUSABLE_ANSWER
    waiting = (
        select(User.clerk_id)
        .outerjoin(record, record.clerk_id == User.clerk_id)
        .where(*IS_INCOMPLETE, or_(record.id.is_(None), and_(is_about_identity, *is_due(now))))
        .order_by(User.identity_asked_at.nulls_first(), User.id.desc())
    )
    return list(session.scalars(waiting.limit(limit)))


def longest_unasked(
    session: Session, *, before: datetime, seen_after: datetime, after: Position | None, limit: int
) -> tuple[list[str], Position | None]:
    """Clerk ids of users to ask about again, of the next `limit` rows in the order of asking.

    Users whose identity was last asked for or completed at `before` at the latest, who have visited
    at `seen_after` or later. Returns the position to go on from as well, or None at the end. An
    index has the rows in order, so that nothing is sorted and a call reads `limit` rows at most.
    """
    session.execute(IN_ORDER)
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


def introduce(session: Session, identity: Identity, now: datetime) -> None:
    """Make somebody known who could not be helped, so that support can find them, and no more.

    Somebody who is known already stays as they are.
    """
    known = insert(User).values(
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
    session.execute(known.on_conflict_do_nothing(index_elements=[User.clerk_id]))
