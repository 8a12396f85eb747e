"""Handle the deletion of a Clerk account: end its sessions and unlink its profile."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import Mentorado, User
from models.user import Role
from provisioning import audit
from provisioning.admin_actions import (
    invalidate_claimants,
    load_profile_for_update,
    release_profile,
)
from provisioning.audit import Source
from provisioning.loading import upsert_user


def handle_account_deletion(
    session: Session, clerk_id: str, *, source: Source, now: datetime
) -> list[str]:
    """Mark the user as deleted, unlink their profile and remove their role.

    The profile and its rows stay for a user who verifies the same address; see `release_profile`.
    An unknown user is stored as deleted, so that a late message cannot restore the account. Returns
    the Clerk ids of the users whose next request must see the change.
    """
    # FOR UPDATE first: a sweep that inserts this user's profile locks their row by its foreign key.
    # This waits for its commit, so that the profile is found below.
    session.execute(select(User.id).where(User.clerk_id == clerk_id).with_for_update())
    user = upsert_user(session, Identity(clerk_id), signs_in=False, now=now)
    if user.deleted_at is not None:
        return [clerk_id]
    user.deleted_at = now
    user.role, user.admin_by_address = Role.USER, False
    profile_id = session.scalars(
        select(Mentorado.id).where(Mentorado.user_id == user.id)
    ).one_or_none()
    claimants: list[str] = []
    if profile_id is not None:
        profile = load_profile_for_update(session, profile_id)
        release_profile(session, profile, user)
        if user.email_verified:
            profile.email = user.email
        profile.updated_at = now
        session.flush()
        claimants = invalidate_claimants(session, profile)
    audit.record(session, source, "user_deleted", user_id=user.id, mentorado_id=profile_id)
    return [clerk_id, *claimants]
