"""Whom we know, of whom not everything has been heard, and whom we could not help."""

from datetime import datetime

from sqlalchemy import exists, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import ProvisioningAttempt, User
from provisioning.identity import Identity


def is_complete(session: Session, clerk_id: str) -> bool:
    """Whether everything the provider knows of this person has been heard."""
    heard = select(User.id).where(
        User.clerk_id == clerk_id, User.identity_completed_at.is_not(None)
    )
    return session.scalars(heard).one_or_none() is not None


def note_heard(session: Session, clerk_id: str, now: datetime) -> None:
    """Note that there is nothing more to be heard of this person."""
    session.execute(update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=now))


def incomplete(session: Session, limit: int) -> list[str]:
    """Clerk ids of people to ask the provider about, the newest first: they are waiting.

    Who has a record of failure is a case for the attempts.
    """
    has_record = exists().where(ProvisioningAttempt.clerk_id == User.clerk_id)
    waiting = select(User.clerk_id).where(
        User.identity_completed_at.is_(None), User.deleted_at.is_(None), ~has_record
    )
    return list(session.scalars(waiting.order_by(User.id.desc()).limit(limit)))


def not_yet_complete(session: Session, clerk_ids: list[str]) -> set[str]:
    """Those among them of whom not everything has been heard, or nothing at all."""
    heard = select(User.clerk_id).where(
        User.clerk_id.in_(clerk_ids), User.identity_completed_at.is_not(None)
    )
    return set(clerk_ids) - set(session.scalars(heard))


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
