"""What is waiting, and what should not be: the numbers that whoever is on call asks for first."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import AttemptState


def count_dead_letters(session: Session) -> int:
    """How many people the background has given up on."""
    dead = select(func.count()).where(ProvisioningAttempt.state == AttemptState.DEAD)
    return session.scalars(dead).one()


def count_doubled_people(session: Session) -> int:
    """How many people have more than one profile; the table's index says none, so this is alarm."""
    doubled = (
        select(Mentorado.user_id)
        .where(Mentorado.user_id.is_not(None))
        .group_by(Mentorado.user_id)
        .having(func.count() > 1)
    )
    return session.scalars(select(func.count()).select_from(doubled.subquery())).one()


def count_ambiguous_addresses(session: Session) -> int:
    """How many addresses more than one profile without owner waits for."""
    address = func.normalized_address(Mentorado.email)
    shared = (
        select(address)
        .where(Mentorado.user_id.is_(None), Mentorado.email.is_not(None))
        .group_by(address)
        .having(func.count() > 1)
    )
    return session.scalars(select(func.count()).select_from(shared.subquery())).one()


def count_incomplete(session: Session) -> int:
    """Of how many people the provider has not told everything yet."""
    waiting = select(func.count()).where(User.identity_completed_at.is_(None))
    return session.scalars(waiting).one()
