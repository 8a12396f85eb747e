"""Profiles that wait for somebody: whose turn it is at an address, and what may make room."""

from collections.abc import Collection

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from models import Mentorado
from provisioning.references import is_referenced
from provisioning.rows import MentoradoRow

AUTO_CREATE = "auto_create"  # key of the stored kill switch in app_settings
CHOICES = 20  # of one address; more would be a mistake of another kind
ADDRESS_LOCKS = 20_251  # first half of the advisory keys that stand for an address


# Keys are sorted before the first of them is locked: two transactions never wait in a circle.
LOCK_ADDRESSES = text("""
    WITH keys AS MATERIALIZED (
        SELECT DISTINCT hashtext(normalized_address(address)) AS key
          FROM unnest(CAST(:addresses AS text[])) AS address
         WHERE normalized_address(address) IS NOT NULL
         ORDER BY key)
    SELECT count(pg_advisory_xact_lock(:locks, key)::text) FROM keys
""")


def lock_addresses(session: Session, addresses: Collection[str]) -> None:
    """Exclude pre-registrations and logins of these addresses until the commit.

    A lock of the transaction, not of the session, so that a pooler may sit between. Users' rows are
    locked before, profiles after: in one order no two transactions wait for each other.
    """
    if addresses:
        session.execute(LOCK_ADDRESSES, {"locks": ADDRESS_LOCKS, "addresses": list(addresses)})


def waiting_for(session: Session, address: str) -> tuple[int, ...]:
    """Ids of at most two profiles that nobody owns and that have this address."""
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(address)
    unlinked = select(Mentorado.id).where(Mentorado.user_id.is_(None), same_address)
    return tuple(session.scalars(unlinked.order_by(Mentorado.id).limit(2)))


def waiting_profiles(session: Session, address: str) -> list[Mentorado]:
    """All profiles that nobody owns and that have this address, for somebody to choose from."""
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(address)
    unlinked = select(Mentorado).where(Mentorado.user_id.is_(None), same_address)
    return list(session.scalars(unlinked.order_by(Mentorado.id).limit(CHOICES)))


def is_untouched(session: Session, profile: Mentorado | MentoradoRow) -> bool:
    """Whether the profile was made automatically, no person edited it and nothing refers to it."""
    return profile.is_unedited and not is_referenced(session, profile.id)
