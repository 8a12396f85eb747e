"""What support would ask first about a person, answered for that person alone."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import AttemptState
from provisioning.waiting import waiting_for


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Facts about one person's profile; matches count only for an address that is verified.

    Of somebody who is not stored (`is_known`) nothing is known but their attempt.
    """

    is_known: bool = True
    linked: bool = False
    unlinked_match: bool = False
    multiple_matches: bool = False
    pending_attempt: bool = False
    has_email: bool = False
    email_verified: bool = False


def diagnose(session: Session, clerk_id: str) -> Diagnosis:
    """Look at one person; reads only. Somebody who never got in is known by their attempt alone."""
    user = session.scalars(select(User).where(User.clerk_id == clerk_id)).one_or_none()
    attempt = session.scalars(
        select(ProvisioningAttempt.state).where(ProvisioningAttempt.clerk_id == clerk_id)
    )
    is_pending = attempt.one_or_none() == AttemptState.PENDING
    if user is None:
        return Diagnosis(is_known=False, pending_attempt=is_pending)
    matches = waiting_for(session, user.email) if user.email and user.email_verified else ()
    profile = session.scalars(select(Mentorado.id).where(Mentorado.user_id == user.id))
    return Diagnosis(
        linked=profile.one_or_none() is not None,
        unlinked_match=bool(matches),
        multiple_matches=len(matches) > 1,
        pending_attempt=is_pending,
        has_email=user.email is not None,
        email_verified=user.email_verified,
    )
