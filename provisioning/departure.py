"""Somebody's account has been deleted: they are out at once, their profile waits."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning import audit
from provisioning.audit import Entry
from provisioning.encounter import remember
from provisioning.identity import Identity


def depart(session: Session, clerk_id: str, *, entry: Entry, now: datetime) -> User:
    """Refuse this person's sessions from now on and take their profile out of their hands.

    The profile stays, with all it has, for whoever proves the same address; one whose address was
    never proven waits for support alone, or anybody could have prepared it for somebody else. Who
    was not known is noted all the same, so that a late word cannot bring them back.
    """
    user = remember(session, Identity(clerk_id), signs_in=False, now=now)
    if user.deleted_at is None:
        user.deleted_at = now
        profile = _left_behind(session, user, now)
        audit.record(
            session,
            entry,
            "user_deleted",
            user_id=user.id,
            mentorado_id=profile.id if profile else None,
        )
    return user


def _left_behind(session: Session, user: User, now: datetime) -> Mentorado | None:
    theirs = select(Mentorado).where(Mentorado.user_id == user.id)
    profile = session.scalars(
        theirs.with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()
    if profile is None:
        return None
    profile.user_id, profile.updated_at = None, now
    if user.email_verified:
        profile.email = user.email
    elif _is_copied(session, profile, user):
        profile.email = None
    return profile


def _is_copied(session: Session, profile: Mentorado, user: User) -> bool:
    """Whether the profile's address is the one that its owner never proved."""
    same = func.normalized_address(profile.email) == func.normalized_address(user.email)
    return bool(session.scalar(select(same)))
