"""The durable record of users who could not be helped: whose profile could not be made, or about
whom the identity provider's answer could not be used.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    and_,
    case,
    delete,
    func,
    not_,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import UNUSABLE_ANSWER, AttemptState
from provisioning.admin_actions import locked_user, record_action
from provisioning.audit import Source
from provisioning.auto_create import may_create
from provisioning.profiles import SHOULD_HAVE_PROFILE, has_unlinked_match
from provisioning.rules import Rules

DOUBLINGS = 20  # far beyond any cap, and a day count that timedelta can still hold
IS_ABOUT_IDENTITY = ProvisioningAttempt.error_class == UNUSABLE_ANSWER
Position = tuple[datetime, int]  # of a record in the order of `due`: last failure, id


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
    """What went wrong: the class of the error and its code, a SQLSTATE or what the identity
    provider answered.
    """

    error_class: str
    error_code: str | None


def record_failure(
    session: Session,
    clerk_id: str,
    failure: Failure,
    *,
    source: Source,
    now: datetime,
    policy: RetryPolicy,
    dice: float,
) -> ProvisioningAttempt:
    """Record that a user could not be helped; in a transaction of its own.

    Only the background's attempts count: a user who reloads a page does not make the record a dead
    letter. It is one once `policy.max_attempts` of them have failed. A user has one record: a
    failure of the other kind, profile or identity, begins to count anew.
    """
    counted = int(source.is_background)
    last = {
        "error_class": failure.error_class,
        "error_code": failure.error_code,
        "request_id": source.request_id,
        "last_failed_at": now,
    }
    first = {
        "clerk_id": clerk_id,
        "state": AttemptState.PENDING,
        "attempts": counted,
        "next_attempt_at": now + policy.pause_after(0, dice),
        "first_failed_at": now,
    }
    is_about_identity = failure.error_class == UNUSABLE_ANSWER
    is_other_kind = ~IS_ABOUT_IDENTITY if is_about_identity else IS_ABOUT_IDENTITY
    record = ProvisioningAttempt
    once_more = {
        "attempts": case((is_other_kind, counted), else_=record.attempts + counted),
        **{
            name: case((is_other_kind, first[name]), else_=getattr(record, name))
            for name in ("state", "next_attempt_at", "first_failed_at")
        },
    }
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


def delete_resolved(session: Session, rules: Rules) -> int:
    """Delete the records with which nothing is wrong any longer; returns how many.

    Those are the records of users whose profile is there to be found (the sweep's own claim that it
    made one does not count, only a later look), whose identity is complete, or who are denied a
    profile: a user who is blocked, deleted, an admin, not invited, or waiting for the switch to be
    turned on is no failure. Once a profile is due again, a sweep finds that it is missing.
    """
    record = aliased(ProvisioningAttempt)
    is_about_identity = record.error_class == UNUSABLE_ANSWER
    is_not_meant = not_(and_(*SHOULD_HAVE_PROFILE))
    is_denied = (
        is_not_meant if may_create(session, rules) else or_(is_not_meant, ~has_unlinked_match())
    )
    is_shut_out = or_(User.blocked_at.is_not(None), User.deleted_at.is_not(None))
    # Joined, not asked for by EXISTS: else PostgreSQL may hash all users for a single record.
    resolved = (
        select(record.id)
        .join(User, User.clerk_id == record.clerk_id)
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .where(
            or_(
                and_(~is_about_identity, or_(Mentorado.id.is_not(None), is_denied)),
                and_(is_about_identity, or_(User.identity_completed_at.is_not(None), is_shut_out)),
            )
        )
    )
    deleted = delete(ProvisioningAttempt).where(ProvisioningAttempt.id.in_(resolved))
    return len(session.scalars(deleted.returning(ProvisioningAttempt.id)).all())


def due(
    session: Session,
    *,
    now: datetime | None,
    before: datetime,
    after: Position | None,
    limit: int,
) -> list[tuple[Position, str]]:
    """Users whose profile is to be tried again, the longest untried first, with their positions.

    Without `now` also those whose pause is not over. What has failed since `before`, the beginning
    of the run, is not tried twice in it.
    """
    record = ProvisioningAttempt
    waiting = (
        select(record.last_failed_at, record.id, record.clerk_id)
        .where(~IS_ABOUT_IDENTITY, *is_due(now), record.last_failed_at < before)
        .order_by(record.last_failed_at, record.id)
    )
    if after is not None:
        waiting = waiting.where(tuple_(record.last_failed_at, record.id) > after)
    rows = session.execute(waiting.limit(limit))
    return [((row.last_failed_at, row.id), row.clerk_id) for row in rows]


def count_due(session: Session, now: datetime | None) -> int:
    """How many `due` would come to."""
    waiting = select(func.count()).select_from(ProvisioningAttempt)
    return session.scalars(waiting.where(~IS_ABOUT_IDENTITY, *is_due(now))).one()


def is_due(now: datetime | None) -> tuple[ColumnElement[bool], ...]:
    """Of a record: the background still tries, and the pause is over; without `now` in any case."""
    is_pending = ProvisioningAttempt.state == AttemptState.PENDING
    return (
        (is_pending,) if now is None else (is_pending, ProvisioningAttempt.next_attempt_at <= now)
    )


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


def reset_attempt(session: Session, clerk_id: str, now: datetime) -> None:
    """Have the next sweep look at this person, whatever their record has come to.

    One statement, because a sweep or another admin may drop the record at any moment.
    """
    session.execute(
        update(ProvisioningAttempt)
        .where(ProvisioningAttempt.clerk_id == clerk_id)
        .values(state=AttemptState.PENDING, attempts=0, next_attempt_at=now)
    )


def delete_attempt(session: Session, user_id: int, *, source: Source) -> list[str]:
    """Drop the record of this person, if there is one, with a note of what it said.

    Returns the Clerk ids of those it concerns. Raises UnknownPersonError.
    """
    user = locked_user(session, user_id)
    gone = delete(ProvisioningAttempt).where(ProvisioningAttempt.clerk_id == user.clerk_id)
    attempt = session.scalars(gone.returning(ProvisioningAttempt)).one_or_none()
    if attempt is not None:
        record_action(session, source, "discard", user=user, error=attempt.error_class)
    return []


def _state_after(attempt: ProvisioningAttempt, policy: RetryPolicy) -> AttemptState:
    is_over = attempt.attempts >= policy.max_attempts
    return AttemptState.DEAD if is_over else AttemptState(attempt.state)
