"""Profiles that wait for somebody: whose turn it is at an address, and what may make room."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import Mentorado
from provisioning.references import is_referenced
from provisioning.rows import MentoradoRow

AUTO_CREATE = "auto_create"  # key of the stored kill switch in app_settings
CHOICES = 20  # of one address; more would be a mistake of another kind
# First half of the advisory keys that stand for an address (`address_holders.lock_addresses`).
ADDRESS_LOCKS = 20_251


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
