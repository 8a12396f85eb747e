"""Messages from Clerk: each is applied once; a deleted account is unlinked, and erased later."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from auth.identity import Identity
from models import Mentorado, User, WebhookMessage
from models.people import Role
from provisioning import audit
from provisioning.admin_actions import invalidate_claimants, release_profile
from provisioning.audit import Source
from provisioning.ensure import upsert_user
from provisioning.erasure import PSEUDONYM_PREFIX

MESSAGES_KEPT = timedelta(days=30)  # far longer than a sender retries
MAX_EXPIRED = 50  # accounts of one sweep


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long a deleted account is kept, and how long the values of audit events are."""

    accounts: timedelta = timedelta(days=30)
    audit_values: timedelta = timedelta(days=730)


def is_new_message(session: Session, message_id: str, event: str) -> bool:
    """Store a message id; False if it was stored before. Waits for a concurrent delivery of it."""
    inserted = (
        insert(WebhookMessage)
        .values(id=message_id, event=event)
        .on_conflict_do_nothing()
        .returning(WebhookMessage.id)
    )
    return session.scalars(inserted).one_or_none() is not None


def delete_old_messages(session: Session, now: datetime) -> None:
    """Delete the ids of messages that will not be delivered again."""
    session.execute(delete(WebhookMessage).where(WebhookMessage.received_at < now - MESSAGES_KEPT))


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
    own = select(Mentorado).where(Mentorado.user_id == user.id).with_for_update()
    profile = session.scalars(own, execution_options={"populate_existing": True}).one_or_none()
    claimants: list[str] = []
    if profile is not None:
        release_profile(session, profile, user)
        if user.email_verified:
            profile.email = user.email
        profile.updated_at = now
        session.flush()
        claimants = invalidate_claimants(session, profile)
    profile_id = profile.id if profile else None
    audit.record(session, source, "user_deleted", user_id=user.id, mentorado_id=profile_id)
    return [clerk_id, *claimants]


def expired_accounts(session: Session, policy: RetentionPolicy, now: datetime) -> list[int]:
    """Return the ids of accounts that Clerk has deleted so long ago, the oldest first."""
    due = (
        select(User.id)
        .where(User.deleted_at < now - policy.accounts)
        .where(func.starts_with(User.clerk_id, PSEUDONYM_PREFIX).is_(False))
        .order_by(User.deleted_at)
        .limit(MAX_EXPIRED)
    )
    return list(session.scalars(due))
