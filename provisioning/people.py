"""The row of the person: written before anything is decided, and locked until it is."""

from dataclasses import fields
from datetime import datetime

from sqlalchemy import exists, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import ProvisioningAttempt, User
from provisioning.identity import Identity

WRITTEN = [field.name for field in fields(Identity)]
# What is not known never overwrites what is, and older news only fills gaps (`as_of` is None for
# somebody who just comes by: that is always news).
IS_NEWS = "(CAST(:as_of AS timestamptz) < users.identity_as_of) IS NOT TRUE"


def _merged(column: str) -> str:
    return f"""{column} = CASE WHEN {IS_NEWS} THEN coalesce(:{column}, users.{column})
        ELSE coalesce(users.{column}, :{column}) END"""


# An address without a word about its verification keeps the old verdict only while it stays the
# same address; a verdict without an address says that there is none any longer.
CHANGES = f"""
    {_merged("name")},
    {_merged("image_url")},
    {_merged("login_method")},
    email = CASE WHEN {IS_NEWS} THEN coalesce(:email, users.email) ELSE users.email END,
    email_verified = CASE
        WHEN NOT ({IS_NEWS}) THEN users.email_verified
        WHEN :email IS NULL THEN
            users.email_verified AND coalesce(CAST(:email_verified AS boolean), true)
        ELSE coalesce(CAST(:email_verified AS boolean), users.email_verified
            AND normalized_address(users.email) = normalized_address(:email)) END,
    identity_as_of = CASE WHEN :is_complete
        THEN greatest(CAST(:as_of AS timestamptz), users.identity_as_of)
        ELSE users.identity_as_of END,
    identity_completed_at = CASE WHEN :is_complete THEN :now ELSE users.identity_completed_at END,
    updated_at = :now,
    last_signed_in = CASE WHEN :signs_in THEN :now ELSE users.last_signed_in END
"""

# UPDATE first, because INSERT … ON CONFLICT would use up an id of the 32-bit sequence at every
# login. Both arms leave the row locked, so that calls for one person queue up here.
UPSERT = f"""
    WITH known AS (
        UPDATE users SET {CHANGES} WHERE clerk_id = :clerk_id RETURNING *
    ), fresh AS (
        INSERT INTO users (clerk_id, name, email, email_verified, image_url, login_method,
                           identity_as_of, identity_completed_at,
                           created_at, updated_at, last_signed_in)
        SELECT :clerk_id, :name, :email, coalesce(CAST(:email_verified AS boolean), false),
               :image_url, :login_method,
               CASE WHEN :is_complete THEN CAST(:as_of AS timestamptz) END,
               CASE WHEN :is_complete THEN CAST(:now AS timestamptz) END, :now, :now, :now
         WHERE NOT EXISTS (SELECT 1 FROM known)
        ON CONFLICT (clerk_id) DO UPDATE SET {CHANGES}
        RETURNING *
    )
    SELECT * FROM known UNION ALL SELECT * FROM fresh
"""  # noqa: S608 - built from constants of this file only


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


def remember(session: Session, identity: Identity, *, signs_in: bool, now: datetime) -> User:
    """Store what the identity knows and return the person's row, locked until the commit."""
    values = written(identity, signs_in=signs_in, now=now)
    statement = select(User).from_statement(text(UPSERT).bindparams(**values))
    user: User = session.scalars(statement, execution_options={"populate_existing": True}).one()
    return user


def written(identity: Identity, *, signs_in: bool, now: datetime) -> dict[str, object]:
    """The values that `UPSERT` writes."""
    known = {name: getattr(identity, name) for name in WRITTEN}
    return {**known, "signs_in": signs_in, "now": now}


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
