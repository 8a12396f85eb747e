"""The deletion of a Clerk account: its sessions end at once, its profile waits for another user."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import Mentorado, User
from models.user import Role
from provisioning import audit
from provisioning.admin_actions import end_contexts_of_heirs, locked_profile, release_profile
from provisioning.audit import Source
from provisioning.loading import upsert_user


def handle_account_deletion(
    session: Session, clerk_id: str, *, source: Source, now: datetime
) -> list[str]:
    """Refuse the sessions of this user from now on and take their profile and their role.

    The profile stays, with all it has, for a user who proves the same address; see
    `release_profile`. An unknown user is stored all the same, so that a late message cannot bring
    the account back. Returns the Clerk ids of the users whose next request must see the change.
    """
    # FOR UPDATE before anything else: a sweep that is inserting this user's profile holds their row
    # by its foreign key. Its commit is waited for, and the profile is found below.
    session.execute(select(User.id).where(User.clerk_id == clerk_id).with_for_update())
    user = upsert_user(session, Identity(clerk_id), signs_in=False, now=now)
    if user.deleted_at is not None:
        return [clerk_id]
    user.deleted_at = now
    user.role, user.admin_by_address = Role.USER, False
    profile_id = session.scalars(
        select(Mentorado.id).where(Mentorado.user_id == user.id)
    ).one_or_none()
    heirs: list[str] = []
    if profile_id is not None:
        profile = locked_profile(session, profile_id)
        release_profile(session, profile, user)
        if user.email_verified:
            profile.email = user.email
        profile.updated_at = now
        session.flush()
        heirs = end_contexts_of_heirs(session, profile)
    audit.record(session, source, "user_deleted", user_id=user.id, mentorado_id=profile_id)
    return [clerk_id, *heirs]
