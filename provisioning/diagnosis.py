"""What support would ask first about a person, answered for that person alone."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from provisioning.standing import waiting_for


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Facts about one person's profile; matches count only for an address that is verified."""

    linked: bool
    unlinked_match: bool
    multiple_matches: bool
    pending_attempt: bool
    has_email: bool
    email_verified: bool


def diagnose(session: Session, clerk_id: str) -> Diagnosis:
    """Look at one person; reads only. Raises NoResultFound for a person who is not known."""
    user = session.scalars(select(User).where(User.clerk_id == clerk_id)).one()
    matches = waiting_for(session, user) if user.email and user.email_verified else ()
    profile = session.scalars(select(Mentorado.id).where(Mentorado.user_id == user.id))
    attempt = session.scalars(
        select(ProvisioningAttempt.id).where(ProvisioningAttempt.clerk_id == clerk_id)
    )
    return Diagnosis(
        linked=profile.one_or_none() is not None,
        unlinked_match=bool(matches),
        multiple_matches=len(matches) > 1,
        pending_attempt=attempt.one_or_none() is not None,
        has_email=user.email is not None,
        email_verified=user.email_verified,
    )
