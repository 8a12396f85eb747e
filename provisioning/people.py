"""Whom we know, of whom not everything has been heard, and whom we could not help."""

from datetime import datetime

from sqlalchemy import and_, or_, select, text, update
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


def is_complete(session: Session, clerk_id: str) -> bool:
    """Whether everything the provider knows of this person has been heard."""
    heard = select(User.id).where(
        User.clerk_id == clerk_id, User.identity_completed_at.is_not(None)
    )
    return session.scalars(heard).one_or_none() is not None


def note_heard(session: Session, clerk_id: str, now: datetime) -> None:
    """Note that there is nothing more to be heard of this person."""
    session.execute(update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=now))


def ask_again(session: Session, clerk_id: str) -> None:
    """Note that there is news of this user which has not been read yet."""
    session.execute(
        update(User).where(User.clerk_id == clerk_id).values(identity_completed_at=None)
    )


def note_asked(session: Session, clerk_id: str, now: datetime) -> None:
    """Note that the provider did not answer about this user, so that others come first next."""
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
