"""What admins may change about people and profiles: each idempotent, each recorded.

Each function locks what it is about by `lock_profile_with_users`, in the order of a login, and
returns the Clerk ids of the users whose next request must see the change.
"""

import enum
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select, union
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado, User
from provisioning import audit
from provisioning.audit import Source
from provisioning.context_version import increment_versions
from provisioning.errors import StaleDecisionError
from provisioning.preregistration import MentoradoExistsError, settle_address
from provisioning.profiles import is_untouched, lock_addresses


class UnknownUserError(Exception):
    """There is no user of that id."""


class UnknownMentoradoError(Exception):
    """There is no mentorado of that id."""


class Conflict(enum.Enum):
    """Why a change does not fit what is there."""

    ITSELF = "a profile cannot be merged into itself"
    CHANGED_HANDS = "a profile has just changed hands"
    OWNED = "the profile has another owner"
    HAS_OWN = "the person has a profile of their own"
    ONESELF = "admins cannot block or delete themselves"
    DELETED_ACCOUNT = "the user's account has been deleted"
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


def block(session: Session, user_id: int, *, source: Source, now: datetime) -> list[str]:
    """Refuse this user from their next request on; the sweep leaves them alone as well.

    Raises ConflictError for an admin who would block themselves.
    """
    if user_id == source.actor_id:
        raise ConflictError(Conflict.ONESELF)
    user = locked_user(session, user_id)
    if user.blocked_at is None:
        user.blocked_at = now
        record_action(session, source, "block", user=user)
    return [user.clerk_id]


def allow(session: Session, user_id: int, *, source: Source) -> list[str]:
    """Let a blocked person in again; their next request is provisioned as any other."""
    user = locked_user(session, user_id)
    if user.blocked_at is not None:
        user.blocked_at = None
        record_action(session, source, "allow", user=user)
    return [user.clerk_id]


def link(
    session: Session, mentorado_id: int, user_id: int, *, source: Source, now: datetime
) -> list[str]:
    """Give a profile without owner to a user; their untouched automatic one makes room.

    Raises ConflictError for a profile that has another owner, for a user whose own profile has been
    used, and for a user whose account is deleted.
    """
    profile, users = lock_profile_with_users(session, mentorado_id, user_ids=[user_id])
    if user_id not in users:
        raise UnknownUserError(f"there is no user {user_id}")
    user = users[user_id]
    if profile.user_id == user.id:
        return [user.clerk_id]
    if profile.user_id is not None:
        raise ConflictError(Conflict.OWNED)
    if user.deleted_at is not None:
        raise ConflictError(Conflict.DELETED_ACCOUNT)
    folded = _make_room(session, user)
    profile.user_id, profile.edited_at, profile.updated_at = user.id, now, now
    record_action(session, source, "link", user=user, profile=profile, folded_mentorado_id=folded)
    return [user.clerk_id]


def unlink(session: Session, mentorado_id: int, *, source: Source, now: datetime) -> list[str]:
    """Take a profile from its owner; it waits for a user who has proven its address.

    An address that only its owner has given and never proven is removed, see `release_profile`.
    """
    profile, users = lock_profile_with_users(session, mentorado_id)
    if profile.user_id is None:
        return []
    owner = users[profile.user_id]
    release_profile(session, profile, owner)
    profile.edited_at = profile.updated_at = now
    record_action(session, source, "unlink", user=owner, profile=profile)
    return sorted({owner.clerk_id, *end_contexts_of_heirs(session, profile)})


def remove(session: Session, mentorado_id: int, *, source: Source, now: datetime) -> list[str]:
    """Delete a profile with all it has; its owner is blocked, or it would be made anew at once.

    Raises ConflictError where a row of a table that we do not know refers to it, and for an admin
    who would delete, and so block, themselves.
    """
    profile, users = lock_profile_with_users(session, mentorado_id)
    owner = users[profile.user_id] if profile.user_id is not None else None
    if owner is not None and owner.id == source.actor_id:
        raise ConflictError(Conflict.ONESELF)
    record_action(session, source, "delete", user=owner, profile=profile, email=profile.email)
    try:
        session.delete(profile)
        session.flush()  # so that a table that refers to it is noticed here
    except IntegrityError as err:
        raise ConflictError(Conflict.HELD) from err
    return [] if owner is None else block(session, owner.id, source=source, now=now)


def lock_profile_with_users(
    session: Session,
    mentorado_id: int,
    *,
    user_ids: Iterable[int] = (),
    address: str | None = None,
) -> tuple[Mentorado, dict[int, User]]:
    """Lock a profile and every user that a change of it may concern, until the commit.

    Users are the profile's owner, those of `user_ids`, and those who have proven the profile's
    address or `address`; they come back by id. The order is that of a login, so that none waits for
    the other in a circle: users by id, addresses by key, the profile. Raises UnknownMentoradoError,
    and StaleDecisionError where owner or address changed before they were locked: the caller's
    transaction is to be tried again.
    """
    look = select(Mentorado.user_id, Mentorado.email).where(Mentorado.id == mentorado_id)
    seen = session.execute(look).one_or_none()
    if seen is None:
        raise UnknownMentoradoError(f"there is no mentorado {mentorado_id}")
    addresses = [each for each in (seen.email, address) if each]
    ids = {*user_ids, *([seen.user_id] if seen.user_id is not None else [])}
    users = _lock_users(session, ids, addresses)
    lock_addresses(session, addresses)
    profile = locked_profile(session, mentorado_id)
    if (profile.user_id, profile.email) != (seen.user_id, seen.email):
        raise StaleDecisionError(f"mentorado {mentorado_id} has just changed")
    return profile, users


def release_profile(session: Session, profile: Mentorado, owner: User) -> None:
    """Take a profile from its owner; it keeps an address only if a user may be found by it.

    An address that its owner has only given, and never proven, is removed: anybody could have
    prepared the profile for the true owner of that address. An automatic profile has every address
    from its owner, unless an admin has written another one.
    """
    is_given = _is_same_address(session, profile.email, owner.email)
    is_proven = is_given and owner.email_verified
    is_written = not profile.created_automatically or _is_written_by_admin(session, profile)
    if not is_proven and (is_given or not is_written):
        profile.email = None
    profile.user_id = None


def end_contexts_of_heirs(session: Session, profile: Mentorado) -> list[str]:
    """End the cached contexts of users who may claim this profile at their next request.

    Those are the users who have proven the address of a profile without owner. Returns their Clerk
    ids.
    """
    if profile.user_id is not None or profile.email is None:
        return []
    proven = select(User.id, User.clerk_id).where(
        User.email_verified,
        func.normalized_address(User.email) == func.normalized_address(profile.email),
    )
    heirs = session.execute(proven).all()
    increment_versions(session, [heir.id for heir in heirs])
    return [heir.clerk_id for heir in heirs]


def locked_user(session: Session, user_id: int) -> User:
    """The user, locked until the commit; raises UnknownPersonError."""
    users = _lock_users(session, {user_id}, ())
    if user_id not in users:
        raise UnknownUserError(f"there is no user {user_id}")
    return users[user_id]


def locked_profile(session: Session, mentorado_id: int) -> Mentorado:
    """The profile, locked until the commit; raises UnknownMentoradoError."""
    profile = session.scalars(
        select(Mentorado).where(Mentorado.id == mentorado_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if profile is None:
        raise UnknownMentoradoError(f"there is no mentorado {mentorado_id}")
    return profile


def _lock_users(
    session: Session, ids: Collection[int], addresses: Collection[str]
) -> dict[int, User]:
    """Lock users of these ids and users who have proven one of these addresses, by id."""
    wanted: list[Select[int]] = [select(User.id).where(User.id.in_(ids))]
    for address in addresses:
        same = func.normalized_address(User.email) == func.normalized_address(address)
        wanted.append(select(User.id).where(User.email_verified, same))
    found = session.scalars(
        select(User).where(User.id.in_(union(*wanted))).order_by(User.id).with_for_update(),
        execution_options={"populate_existing": True},
    )
    return {user.id: user for user in found}


def _is_written_by_admin(session: Session, profile: Mentorado) -> bool:
    """Whether an admin's edit has set the address that the profile has now."""
    edits = select(AuditEvent.id).where(
        AuditEvent.mentorado_id == profile.id,
        AuditEvent.event == "admin_action",
        AuditEvent.details["after"]["email"].astext == profile.email,
    )
    return session.scalars(edits.limit(1)).one_or_none() is not None


def _is_same_address(session: Session, one: str | None, other: str | None) -> bool:
    same = func.normalized_address(one) == func.normalized_address(other)
    return bool(session.scalar(select(same)))


def record_action(
    session: Session,
    source: Source,
    action: str,
    *,
    user: User | None = None,
    profile: Mentorado | None = None,
    **details: Any,
) -> None:
    """Add what an admin did to the record."""
    audit.record(
        session,
        source,
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


def edit(
    session: Session,
    mentorado_id: int,
    *,
    changes: Mapping[str, str | int | None],
    source: Source,
    now: datetime,
) -> list[str]:
    """Write checked values of columns into a profile; the audit event has the values before.

    A profile without owner that is given the proven address of a user who has none, or an untouched
    automatic one, is theirs at their next request. Returns the Clerk ids of the users who must see
    the change. Raises UnknownMentoradoError, MentoradoExistsError for an address that another
    profile has, and StaleDecisionError as `lock_profile_with_users` does.
    """
    address = changes.get("email")
    new_address = address if isinstance(address, str) else None
    profile, users = lock_profile_with_users(session, mentorado_id, address=new_address)
    owner = users[profile.user_id] if profile.user_id is not None else None
    if new_address is not None:
        taken = settle_address(session, new_address, apart_from=mentorado_id)
        if taken and owner is not None:
            raise MentoradoExistsError(taken[0].id)
    before = {column: getattr(profile, column) for column in changes}
    changed = sorted(column for column, value in changes.items() if value != before[column])
    if changed:
        for column in changed:
            setattr(profile, column, changes[column])
        profile.edited_at = profile.updated_at = now
        record_action(
            session,
            source,
            "edit",
            user=owner,
            profile=profile,
            before={column: before[column] for column in changed},
            after={column: changes[column] for column in changed},
        )
    # Also where nothing changed: an earlier try of this request may have committed.
    return [owner.clerk_id] if owner else end_contexts_of_heirs(session, profile)
