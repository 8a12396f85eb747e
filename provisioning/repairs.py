"""What admins may change about people and profiles: each idempotent, each recorded.

Whoever locks does so in one order, as a login does: the person's row first, then the profile.
Each function returns the Clerk ids of those whose next request must see the change.
"""

import enum
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning import audit
from provisioning.audit import Entry
from provisioning.waiting import is_untouched


class UnknownPersonError(Exception):
    """There is no user of that id."""


class UnknownMentoradoError(Exception):
    """There is no mentorado of that id."""


class Conflict(enum.Enum):
    """Why a change does not fit what is there."""

    ITSELF = "a profile cannot be merged into itself"
    CHANGED_HANDS = "a profile has just changed hands"
    OWNED = "the profile has another owner"
    HAS_OWN = "the person has a profile of their own"
    TWO_OWNERS = "both profiles have an owner"
    HELD = "something still refers to the profile"
    UNTOLD_RULE = "two rows are kept apart in a way that cannot be told"
    HELD_ROW = "something refers to a row that would have to make room"
    NOT_AS_SHOWN = "what would happen is no longer what was confirmed"


class ConflictError(Exception):
    """The change does not fit what is there; nothing was written. `about`: what is in the way."""

    def __init__(self, kind: Conflict, about: str = "") -> None:
        super().__init__(f"{kind.value}: {about}" if about else kind.value)
        self.kind = kind


def block(session: Session, user_id: int, *, entry: Entry, now: datetime) -> list[str]:
    """Refuse this person from their next request on; the sweep leaves them alone as well."""
    user = locked_user(session, user_id)
    if user.blocked_at is None:
        user.blocked_at = now
        record_action(session, entry, "block", user=user)
    return [user.clerk_id]


def allow(session: Session, user_id: int, *, entry: Entry) -> list[str]:
    """Let a blocked person in again; their next request is provisioned as any other."""
    user = locked_user(session, user_id)
    if user.blocked_at is not None:
        user.blocked_at = None
        record_action(session, entry, "allow", user=user)
    return [user.clerk_id]


def link(
    session: Session, mentorado_id: int, user_id: int, *, entry: Entry, now: datetime
) -> list[str]:
    """Give a profile without owner to a person; their untouched automatic one makes room.

    Raises ConflictError for a profile that has another owner, and for a person whose own profile
    has been used.
    """
    user = locked_user(session, user_id)
    profile = locked_profile(session, mentorado_id)
    if profile.user_id == user.id:
        return [user.clerk_id]
    if profile.user_id is not None:
        raise ConflictError(Conflict.OWNED)
    folded = _make_room(session, user)
    profile.user_id, profile.edited_at, profile.updated_at = user.id, now, now
    record_action(session, entry, "link", user=user, profile=profile, folded_mentorado_id=folded)
    return [user.clerk_id]


def unlink(session: Session, mentorado_id: int, *, entry: Entry, now: datetime) -> list[str]:
    """Take a profile out of its owner's hands; it waits for whoever proves its address."""
    owner = locked_owner(session, mentorado_id)
    profile = locked_profile(session, mentorado_id)
    if owner is None:
        return []
    profile.user_id, profile.edited_at, profile.updated_at = None, now, now
    record_action(session, entry, "unlink", user=owner, profile=profile)
    return [owner.clerk_id]


def remove(session: Session, mentorado_id: int, *, entry: Entry, now: datetime) -> list[str]:
    """Delete a profile with all it has; its person is blocked, or it would be made anew at once.

    Raises ConflictError where a table that we do not know holds on to it.
    """
    owner = locked_owner(session, mentorado_id)
    profile = locked_profile(session, mentorado_id)
    record_action(session, entry, "delete", user=owner, profile=profile, email=profile.email)
    try:
        session.delete(profile)
        session.flush()  # so that a table that refers to it is heard here
    except IntegrityError as err:
        raise ConflictError(Conflict.HELD) from err
    return [] if owner is None else block(session, owner.id, entry=entry, now=now)


def locked_user(session: Session, user_id: int) -> User:
    """The person, held still until the commit; raises UnknownPersonError."""
    user = session.scalars(
        select(User).where(User.id == user_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if user is None:
        raise UnknownPersonError(f"there is no user {user_id}")
    return user


def locked_profile(session: Session, mentorado_id: int) -> Mentorado:
    """The profile, held still until the commit; raises UnknownMentoradoError."""
    profile = session.scalars(
        select(Mentorado).where(Mentorado.id == mentorado_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if profile is None:
        raise UnknownMentoradoError(f"there is no mentorado {mentorado_id}")
    return profile


def locked_owner(session: Session, mentorado_id: int) -> User | None:
    """The profile's owner, if it has one, whose lock comes before the profile's own.

    Raises ConflictError where the profile changes hands between the two looks.
    """
    owner_of = select(Mentorado.user_id).where(Mentorado.id == mentorado_id)
    owner_id = session.scalars(owner_of).one_or_none()
    owner = None if owner_id is None else locked_user(session, owner_id)
    if session.scalars(owner_of).one_or_none() != owner_id:
        raise ConflictError(Conflict.CHANGED_HANDS)
    return owner


def record_action(
    session: Session,
    entry: Entry,
    action: str,
    *,
    user: User | None = None,
    profile: Mentorado | None = None,
    **details: Any,
) -> None:
    """Add what an admin did to the record."""
    audit.record(
        session,
        entry,
        "admin_action",
        user_id=user.id if user else None,
        mentorado_id=profile.id if profile else None,
        details={"action": action, **details},
    )


def _make_room(session: Session, user: User) -> int | None:
    own = session.scalars(
        select(Mentorado).where(Mentorado.user_id == user.id).with_for_update()
    ).one_or_none()
    if own is None:
        return None
    if not is_untouched(session, own):
        raise ConflictError(Conflict.HAS_OWN)
    session.delete(own)
    session.flush()  # its place must be free before the other one takes it
    return own.id
