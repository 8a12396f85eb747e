"""Changes by admins of users, profiles and the auto-create switch.

Each is idempotent and adds an audit event. A change of a user or profile locks its rows in the
order of a login (`lock_profile_and_owner`). It returns the Clerk ids of the users whose next
request must see the change.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import exists, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.email_address import normalize_address
from models import AppSetting, AuditEvent, Mentorado, User
from provisioning import audit
from provisioning.audit import Source
from provisioning.context_version import increment_versions
from provisioning.errors import (
    Conflict,
    ConflictError,
    MentoradoExistsError,
    StaleDecisionError,
    UnknownMentoradoError,
    UnknownUserError,
)
from provisioning.preregistration import Verdict, find_outcomes, lock_users_and_addresses
from provisioning.profiles import AUTO_CREATE, is_untouched
from provisioning.rules import Rules


def block(session: Session, user_id: int, *, source: Source, now: datetime) -> list[str]:
    """Block a user from the next request on; raises ConflictError for an admin's own account."""
    if user_id == source.actor_id:
        raise ConflictError(Conflict.OWN_ACCOUNT)
    user = load_user_for_update(session, user_id)
    if user.blocked_at is None:
        user.blocked_at = now
        record_action(session, source, "block", user=user)
    return [user.clerk_id]


def allow(session: Session, user_id: int, *, source: Source) -> list[str]:
    """Unblock a user; the next request is provisioned as usual."""
    user = load_user_for_update(session, user_id)
    if user.blocked_at is not None:
        user.blocked_at = user.same_person_as = None
        record_action(session, source, "allow", user=user)
    return [user.clerk_id]


def link(
    session: Session, mentorado_id: int, user_id: int, *, source: Source, now: datetime
) -> list[str]:
    """Link an unlinked profile to a user and delete the user's untouched automatic one.

    Raises ConflictError for a profile that has another owner, a user whose own profile is not
    untouched, and a user whose account is deleted.
    """
    profile, owner = lock_profile_and_owner(session, mentorado_id, user_id=user_id)
    user = load_user_for_update(session, user_id)
    if owner is user:
        return [user.clerk_id]
    if owner is not None:
        raise ConflictError(Conflict.OWNED)
    if user.deleted_at is not None:
        raise ConflictError(Conflict.DELETED_ACCOUNT)
    deleted_id = delete_untouched(session, user)
    profile.user_id, profile.edited_at, profile.updated_at = user.id, now, now
    record_action(
        session, source, "link", user=user, profile=profile, folded_mentorado_id=deleted_id
    )
    return [user.clerk_id]


def unlink(session: Session, mentorado_id: int, *, source: Source, now: datetime) -> list[str]:
    """Unlink a profile as `release_profile` does; a user with its verified address may claim it."""
    profile, owner = lock_profile_and_owner(session, mentorado_id)
    if owner is None:
        return []
    release_profile(session, profile, owner)
    profile.edited_at = profile.updated_at = now
    record_action(session, source, "unlink", user=owner, profile=profile)
    return sorted({owner.clerk_id, *invalidate_claimants(session, profile)})


def lock_profile_and_owner(
    session: Session, mentorado_id: int, *, user_id: int | None = None, address: str | None = None
) -> tuple[Mentorado, User | None]:
    """Lock a profile and every user whom a change of it may affect; return it with its owner.

    Locked until the commit are its owner, the user of `user_id`, and those whose verified address
    is the profile's or `address`. The order is that of a login, which prevents deadlocks: users by
    id, addresses by key, the profile. Raises UnknownMentoradoError, and StaleDecisionError where
    owner or address changed before they were locked: the caller retries its transaction.
    """
    columns = select(Mentorado.user_id, Mentorado.email).where(Mentorado.id == mentorado_id)
    before = session.execute(columns).one_or_none()
    if before is None:
        raise UnknownMentoradoError(f"there is no mentorado {mentorado_id}")
    ids = {each for each in (user_id, before.user_id) if each is not None}
    users = lock_users_and_addresses(session, [before.email, address], user_ids=ids)
    profile = load_profile_for_update(session, mentorado_id)
    if (profile.user_id, profile.email) != (before.user_id, before.email):
        raise StaleDecisionError(f"mentorado {mentorado_id} has just changed")
    return profile, None if profile.user_id is None else users[profile.user_id]


def release_profile(session: Session, profile: Mentorado, owner: User) -> None:
    """Unlink a profile from its owner; remove an address that only the owner has given, unverified.

    Otherwise a user could prepare the profile for the true owner of that address. The address of an
    automatic profile comes from its owner, unless an admin has written another one.
    """
    key = normalize_address(profile.email or "")
    is_from_owner = key is not None and key == normalize_address(owner.email or "")
    is_verified = is_from_owner and owner.email_verified
    written_by_admin = exists().where(
        AuditEvent.mentorado_id == profile.id,
        AuditEvent.event == "admin_action",
        AuditEvent.details["after"]["email"].astext == profile.email,
    )
    is_from_admin = not profile.created_automatically or session.scalar(select(written_by_admin))
    if not is_verified and (is_from_owner or not is_from_admin):
        profile.email = None
    profile.user_id = None


def invalidate_claimants(session: Session, profile: Mentorado) -> list[str]:
    """Invalidate the contexts of users who may claim this profile; return their Clerk ids."""
    if profile.user_id is not None or profile.email is None:
        return []
    is_same = func.normalized_address(User.email) == normalize_address(profile.email)
    verified = select(User.id, User.clerk_id).where(User.email_verified, is_same)
    claimants = session.execute(verified).all()
    increment_versions(session, [user.id for user in claimants])
    return [user.clerk_id for user in claimants]


def load_user_for_update(session: Session, user_id: int) -> User:
    """Return the user, locked until the commit; raises UnknownUserError."""
    user = session.get(User, user_id, with_for_update=True, populate_existing=True)
    if user is None:
        raise UnknownUserError(f"there is no user {user_id}")
    return user


def load_profile_for_update(session: Session, mentorado_id: int) -> Mentorado:
    """Return the profile, locked until the commit; raises UnknownMentoradoError."""
    profile = session.get(Mentorado, mentorado_id, with_for_update=True, populate_existing=True)
    if profile is None:
        raise UnknownMentoradoError(f"there is no mentorado {mentorado_id}")
    return profile


def record_action(
    session: Session,
    source: Source,
    action: str,
    *,
    user: User | None = None,
    profile: Mentorado | None = None,
    **details: Any,
) -> None:
    """Add an audit event for the action of an admin."""
    ids = {"user_id": user.id if user else None, "mentorado_id": profile.id if profile else None}
    audit.record(session, source, "admin_action", **ids, details={"action": action, **details})


def delete_untouched(session: Session, user: User) -> int | None:
    """Delete the user's profile and return its id; raises ConflictError if it is not untouched."""
    own = select(Mentorado).where(Mentorado.user_id == user.id).with_for_update()
    profile = session.scalars(own).one_or_none()
    if profile is None:
        return None
    if not is_untouched(session, profile):
        raise ConflictError(Conflict.HAS_PROFILE)
    session.delete(profile)
    session.flush()  # `user_id` is unique: it must be free for the other profile
    return profile.id


def edit(
    session: Session,
    mentorado_id: int,
    *,
    changes: Mapping[str, Any],
    source: Source,
    now: datetime,
) -> list[str]:
    """Write checked values into a profile; the audit event has the values before and after.

    An unlinked profile that gets the verified address of a user without a profile, or with an
    untouched one, is linked at that user's next request. Returns the Clerk ids of the users who
    must see the change. Raises UnknownMentoradoError, MentoradoExistsError for an address that
    another profile has, and StaleDecisionError as `lock_profile_and_owner` does.
    """
    address = changes.get("email")
    profile, owner = lock_profile_and_owner(session, mentorado_id, address=address)
    if address is not None:
        [found] = find_outcomes(session, [address], ignored_id=mentorado_id, for_update=True)
        if found.verdict is Verdict.EXISTS or (owner and found.verdict is Verdict.TAKES_OVER):
            raise MentoradoExistsError(found.mentorado_id)
    stored = {column: getattr(profile, column) for column in sorted(changes)}
    before = {column: value for column, value in stored.items() if value != changes[column]}
    after = {column: changes[column] for column in before}
    if before:
        for column, value in after.items():
            setattr(profile, column, value)
        profile.edited_at = profile.updated_at = now
        record_action(
            session, source, "edit", user=owner, profile=profile, before=before, after=after
        )
    # Also where nothing changed: an earlier try of this request may have committed.
    return [owner.clerk_id] if owner else invalidate_claimants(session, profile)


def is_auto_create_on(session: Session) -> bool:
    """Whether the stored switch is on; it is unless an admin has turned it off."""
    stored = select(AppSetting.value).where(AppSetting.key == AUTO_CREATE)
    return session.scalars(stored).one_or_none() is not False


def may_create_profiles(session: Session, rules: Rules) -> bool:
    """Whether a user without a pre-registered profile gets one, by settings and stored switch."""
    return rules.auto_create and not rules.invited_only and is_auto_create_on(session)


def set_auto_create(session: Session, *, on: bool, source: Source, now: datetime) -> None:
    """Turn the switch on or off; it holds at once, as users without profile are not cached."""
    values = {"value": on, "updated_at": now, "updated_by": source.actor_id}
    session.execute(
        insert(AppSetting)
        .values(key=AUTO_CREATE, **values)
        .on_conflict_do_update(index_elements=[AppSetting.key], set_=values)
    )
    audit.record(session, source, "auto_create_changed", details={"enabled": on})
