"""The durable memory of people whose profile could not be made, kept until it is found."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import AttemptState
from provisioning.audit import Entry
from provisioning.repairs import locked_user, record_action

DOUBLINGS = 20  # far beyond any cap, and a day count that timedelta can still hold


class UnknownAttemptError(Exception):
    """There is no dead letter of that id."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How the background goes on trying; `first_pause` is what the sweep's rhythm allows."""

    max_attempts: int = 8
    first_pause: timedelta = timedelta(minutes=1)
    longest_pause: timedelta = timedelta(hours=1)

    def pause_after(self, attempts: int, dice: float) -> timedelta:
        """How long to leave a person in peace: exponential, capped, the later half at random.

        `dice` is from 0 to 1; it spreads those who failed together.
        """
        doubled: int = 2 ** min(attempts, DOUBLINGS)
        return min(self.longest_pause, self.first_pause * doubled) * (0.5 + dice / 2)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong: the class of the error and, where the database said one, its SQLSTATE."""

    error_class: str
    error_code: str | None


def record_failure(
    session: Session,
    clerk_id: str,
    failure: Failure,
    *,
    entry: Entry,
    now: datetime,
    policy: RetryPolicy,
    dice: float,
) -> ProvisioningAttempt:
    """Remember that a person could not be helped; in a transaction of its own.

    Only the background's tries count: somebody who reloads a page does not make their own letter
    dead. It is dead once `policy.max_attempts` of them have failed.
    """
    counted = int(entry.is_background)
    last = {
        "error_class": failure.error_class,
        "error_code": failure.error_code,
        "request_id": entry.request_id,
        "last_failed_at": now,
    }
    first = {
        "clerk_id": clerk_id,
        "state": AttemptState.PENDING,
        "attempts": counted,
        "next_attempt_at": now + policy.pause_after(0, dice),
        "first_failed_at": now,
    }
    once_more = {"attempts": ProvisioningAttempt.attempts + counted}
    attempt = session.scalars(
        insert(ProvisioningAttempt)
        .values(**first, **last)
        .on_conflict_do_update(
            index_elements=[ProvisioningAttempt.clerk_id], set_={**once_more, **last}
        )
        .returning(ProvisioningAttempt),
        execution_options={"populate_existing": True},
    ).one()
    if counted:
        attempt.next_attempt_at = now + policy.pause_after(attempt.attempts, dice)
        attempt.state = _state_after(attempt, policy)
    return attempt


def forget_the_helped(session: Session) -> int:
    """Drop the records of people whose profile is there to be found; returns how many.

    The sweep's own word that it made a profile does not count, only a later look.
    """
    with_profile = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
    helped = delete(ProvisioningAttempt).where(ProvisioningAttempt.clerk_id.in_(with_profile))
    return len(session.scalars(helped.returning(ProvisioningAttempt.id)).all())


def due(session: Session, now: datetime | None, after_id: int, limit: int) -> list[tuple[int, str]]:
    """Ids and Clerk ids of people to try again, in key order; without `now` also those not due."""
    waiting = select(ProvisioningAttempt.id, ProvisioningAttempt.clerk_id).where(
        *_is_due(now), ProvisioningAttempt.id > after_id
    )
    rows = session.execute(waiting.order_by(ProvisioningAttempt.id).limit(limit))
    return [(row.id, row.clerk_id) for row in rows]


def count_due(session: Session, now: datetime | None) -> int:
    """How many `due` would come to."""
    waiting = select(func.count()).select_from(ProvisioningAttempt).where(*_is_due(now))
    return session.scalars(waiting).one()


def dead_letters(
    session: Session, *, after_id: int, limit: int
) -> list[tuple[ProvisioningAttempt, int | None]]:
    """Dead records in key order, each with the id of the user it concerns, if one is known."""
    rows = session.execute(
        select(ProvisioningAttempt, User.id)
        .outerjoin(User, User.clerk_id == ProvisioningAttempt.clerk_id)
        .where(ProvisioningAttempt.state == AttemptState.DEAD, ProvisioningAttempt.id > after_id)
        .order_by(ProvisioningAttempt.id)
        .limit(limit)
    )
    return [(attempt, user_id) for attempt, user_id in rows]


def dead_letter(session: Session, attempt_id: int) -> ProvisioningAttempt:
    """One dead record, locked; raises UnknownAttemptError."""
    this = select(ProvisioningAttempt).where(
        ProvisioningAttempt.id == attempt_id, ProvisioningAttempt.state == AttemptState.DEAD
    )
    attempt = session.scalars(this.with_for_update()).one_or_none()
    if attempt is None:
        raise UnknownAttemptError(f"there is no dead letter {attempt_id}")
    return attempt


def revive(session: Session, clerk_id: str, now: datetime) -> None:
    """Have the next sweep look at this person, whatever their record has come to.

    One statement, because a sweep or another admin may drop the record at any moment.
    """
    session.execute(
        update(ProvisioningAttempt)
        .where(ProvisioningAttempt.clerk_id == clerk_id)
        .values(state=AttemptState.PENDING, attempts=0, next_attempt_at=now)
    )


def forget(session: Session, user_id: int, *, entry: Entry) -> list[str]:
    """Drop the record of this person, if there is one, with a note of what it said.

    Returns the Clerk ids of those it concerns. Raises UnknownPersonError.
    """
    user = locked_user(session, user_id)
    gone = delete(ProvisioningAttempt).where(ProvisioningAttempt.clerk_id == user.clerk_id)
    attempt = session.scalars(gone.returning(ProvisioningAttempt)).one_or_none()
    if attempt is not None:
        record_action(session, entry, "discard", user=user, error=attempt.error_class)
    return []


def _is_due(now: datetime | None) -> tuple[ColumnElement[bool], ...]:
    is_pending = ProvisioningAttempt.state == AttemptState.PENDING
    return (
        (is_pending,) if now is None else (is_pending, ProvisioningAttempt.next_attempt_at <= now)
    )


def _state_after(attempt: ProvisioningAttempt, policy: RetryPolicy) -> AttemptState:
    is_over = attempt.attempts >= policy.max_attempts
    return AttemptState.DEAD if is_over else AttemptState(attempt.state)
