"""What is waiting, and what should not be: the numbers that whoever is on call asks for first."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, not_, select
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import UNUSABLE_ANSWER, AttemptState
from provisioning import difference
from provisioning.linking import Rules

# Of a record of failure: whether its person has a profile by now, and only a sweep is missing.
IS_HELPED = (
    select(Mentorado.id)
    .join(User, User.id == Mentorado.user_id)
    .where(User.clerk_id == ProvisioningAttempt.clerk_id)
    .exists()
)
# Whether it is about somebody who is not meant to have one, however often it failed before.
IS_NOT_DUE = (
    select(User.id)
    .where(User.clerk_id == ProvisioningAttempt.clerk_id)
    .where(not_(and_(*difference.IS_MEANT_TO_HAVE_ONE)))
    .exists()
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """People the background has given up on, addresses that more than one profile without owner
    waits for, people of whom the provider has not told everything yet, and people who wait for a
    profile, tried or not, with the time since when the first of them waits.
    """

    dead_letters: int
    ambiguous_addresses: int
    incomplete: int
    waiting: int
    waiting_since: datetime | None


def count_backlog(session: Session, rules: Rules) -> Backlog:
    """Count what waits under these rules."""
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
    waits = (~IS_HELPED, ~IS_NOT_DUE, ProvisioningAttempt.error_class != UNUSABLE_ANSWER)
    tried = select(func.count(ProvisioningAttempt.id)).where(*waits)
    since = select(func.min(ProvisioningAttempt.first_failed_at)).where(*waits)
    queries = (dead, ambiguous, incomplete, tried, since)
    numbers = [query.scalar_subquery() for query in queries]
    dead_letters, addresses, unknown, failing, failing_since = session.execute(
        select(*numbers)
    ).one()
    missing, missing_since = difference.missing_since(session, rules)
    first = min(filter(None, (missing_since, failing_since)), default=None)
    return Backlog(dead_letters, addresses, unknown, missing + failing, first)


def count_doubled_people(session: Session) -> int:
    """How many people have more than one profile; the table's index says none, so this is alarm."""
    doubled = (
        select(Mentorado.user_id)
        .where(Mentorado.user_id.is_not(None))
        .group_by(Mentorado.user_id)
        .having(func.count() > 1)
    )
    return session.scalars(select(func.count()).select_from(doubled.subquery())).one()
