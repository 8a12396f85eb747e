"""What is waiting, and what should not be: the numbers that whoever is on call asks for first."""

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import AttemptState


@dataclass(frozen=True, slots=True)
class Backlog:
    """People the background has given up on, addresses that more than one profile without owner
    waits for, and people of whom the provider has not told everything yet.
    """

    dead_letters: int
    ambiguous_addresses: int
    incomplete: int


def count_backlog(session: Session) -> Backlog:
    """Count what waits, in one statement."""
    dead = select(func.count()).where(ProvisioningAttempt.state == AttemptState.DEAD)
    address = func.normalized_address(Mentorado.email)
    shared = (
        select(address)
        .where(Mentorado.user_id.is_(None), Mentorado.email.is_not(None))
        .group_by(address)
        .having(func.count() > 1)
        .subquery()
    )
    ambiguous = select(func.count()).select_from(shared)
    incomplete = select(func.count()).where(User.identity_completed_at.is_(None))
    numbers = [query.scalar_subquery() for query in (dead, ambiguous, incomplete)]
    return Backlog(*session.execute(select(*numbers)).one())


def count_doubled_people(session: Session) -> int:
    """How many people have more than one profile; the table's index says none, so this is alarm."""
    doubled = (
        select(Mentorado.user_id)
        .where(Mentorado.user_id.is_not(None))
        .group_by(Mentorado.user_id)
        .having(func.count() > 1)
    )
    return session.scalars(select(func.count()).select_from(doubled.subquery())).one()
