"""Failed attempts: one row for each user, retried by the sweep with backoff until a dead letter.

An attempt records that a profile could not be ensured, or that the identity provider's answer about
the user could not be used.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Update,
    and_,
    case,
    delete,
    exists,
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
from models.background import UNUSABLE_ANSWER, AttemptState
from provisioning.admin_actions import load_user_for_update, may_create_profiles, record_action
from provisioning.audit import Source
from provisioning.profiles import SHOULD_HAVE_PROFILE, has_unlinked_match
from provisioning.rules import Rules

MAX_DOUBLINGS = 20  # far beyond any cap, and still within the range of timedelta
IS_DEAD = ProvisioningAttempt.state == AttemptState.DEAD
IS_ABOUT_IDENTITY = ProvisioningAttempt.error_class == UNUSABLE_ANSWER
AttemptPosition = tuple[datetime, int]  # in the order of `due_attempts`: last failure, id


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and when the background retries; `first_pause` is the sweep's interval."""

    max_attempts: int = 8
    first_pause: timedelta = timedelta(minutes=1)
    longest_pause: timedelta = timedelta(hours=1)

    def pause_after(self, attempts: int, jitter: float) -> timedelta:
        """Return the pause: exponential, capped, its later half times `jitter`, which is 0 to 1."""
        factor: int = 2 ** min(attempts, MAX_DOUBLINGS)
        return min(self.longest_pause, self.first_pause * factor) * (0.5 + jitter / 2)


@dataclass(frozen=True, slots=True)
class Failure:
    """The class of an error and its code: a SQLSTATE or a code of the identity provider."""

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
    jitter: float,
) -> ProvisioningAttempt:
    """Insert or update the attempt of a user; the caller uses a transaction of its own.

    Only attempts of the background count, so that a user who reloads a page causes no dead letter.
    After `policy.max_attempts` of them the attempt is a dead letter. A user has one attempt: a
    failure of the other kind, profile or identity, restarts the count.
    """
    inserted = insert(ProvisioningAttempt).values(
        clerk_id=clerk_id,
        state=AttemptState.PENDING,
        attempts=int(source.is_background),
        next_attempt_at=now + policy.pause_after(0, jitter),
        error_class=failure.error_class,
        error_code=failure.error_code,
        request_id=source.request_id,
        first_failed_at=now,
        last_failed_at=now,
    )
    old, new = ProvisioningAttempt, inserted.excluded
    is_other_kind = (new.error_class == UNUSABLE_ANSWER) != IS_ABOUT_IDENTITY
    kept = ("state", "next_attempt_at", "first_failed_at")
    replaced = ("error_class", "error_code", "request_id", "last_failed_at")
    updates = {
        "attempts": new.attempts + case((is_other_kind, 0), else_=old.attempts),
        **{name: case((is_other_kind, new[name]), else_=getattr(old, name)) for name in kept},
        **{name: new[name] for name in replaced},
    }
    attempt = session.scalars(
        inserted.on_conflict_do_update(index_elements=[old.clerk_id], set_=updates).returning(old),
        execution_options={"populate_existing": True},
    ).one()
    if source.is_background:
        attempt.next_attempt_at = now + policy.pause_after(attempt.attempts, jitter)
        if attempt.attempts >= policy.max_attempts:
            attempt.state = AttemptState.DEAD
    return attempt


def delete_resolved(session: Session, rules: Rules) -> int:
    """Delete the attempts whose cause is gone; return how many.

    Those are attempts of users whose profile is found by a read (the sweep's own report that it
    created one does not count), whose identity is complete, or who are denied a profile. A user who
    is blocked, deleted, an admin, not invited, or without profile because auto-creation is off is
    no failure. Once a profile is due again, a sweep finds that it is missing.
    """
    record = aliased(ProvisioningAttempt)
    is_about_identity = record.error_class == UNUSABLE_ANSWER
    is_excluded = not_(and_(*SHOULD_HAVE_PROFILE))
    is_denied = is_excluded
    if not may_create_profiles(session, rules):
        is_denied = or_(is_excluded, ~has_unlinked_match())
    has_no_access = or_(User.blocked_at.is_not(None), User.deleted_at.is_not(None))
    has_identity = User.identity_completed_at.is_not(None)
    # A join instead of EXISTS: else PostgreSQL may hash all users for a single attempt.
    resolved = (
        select(record.id)
        .join(User, User.clerk_id == record.clerk_id)
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .where(
            or_(
                and_(~is_about_identity, or_(Mentorado.id.is_not(None), is_denied)),
                and_(is_about_identity, or_(has_identity, has_no_access)),
            )
        )
    )
    deleted = delete(ProvisioningAttempt).where(ProvisioningAttempt.id.in_(resolved))
    return len(session.scalars(deleted.returning(ProvisioningAttempt.id)).all())


def due_attempts(
    session: Session,
    *,
    now: datetime | None,
    before: datetime,
    after: AttemptPosition | None,
    limit: int,
) -> list[tuple[AttemptPosition, str]]:
    """Return positions and Clerk ids of users whose profile is to be retried, oldest failure first.

    Without `now`, users whose pause is not over are included. Attempts that failed after `before`,
    the start of the run, are excluded, so that a run tries none twice.
    """
    record = ProvisioningAttempt
    due = (
        select(record.last_failed_at, record.id, record.clerk_id)
        .where(~IS_ABOUT_IDENTITY, *is_due(now), record.last_failed_at < before)
        .order_by(record.last_failed_at, record.id)
    )
    if after is not None:
        due = due.where(tuple_(record.last_failed_at, record.id) > after)
    rows = session.execute(due.limit(limit))
    return [((row.last_failed_at, row.id), row.clerk_id) for row in rows]


def count_due(session: Session, now: datetime | None) -> int:
    """Return the number of attempts that `due_attempts` returns."""
    counted = select(func.count()).select_from(ProvisioningAttempt)
    return session.scalars(counted.where(~IS_ABOUT_IDENTITY, *is_due(now))).one()


def next_due_at(session: Session, *, with_identities: bool) -> datetime | None:
    """Return when the next pending attempt is due; those about identities only on request."""
    record = ProvisioningAttempt
    is_retried = ~IS_ABOUT_IDENTITY
    if with_identities:
        is_retried = or_(is_retried, exists().where(User.clerk_id == record.clerk_id))
    due = select(func.min(record.next_attempt_at)).where(*is_due(None), is_retried)
    return session.scalars(due).one()


def is_due(now: datetime | None) -> tuple[ColumnElement[bool], ...]:
    """SQL conditions: the attempt is pending and, with `now`, its pause is over."""
    is_pending = ProvisioningAttempt.state == AttemptState.PENDING
    return (is_pending, *([] if now is None else [ProvisioningAttempt.next_attempt_at <= now]))


def list_dead_letters(
    session: Session, *, after_id: int, limit: int
) -> list[tuple[ProvisioningAttempt, int | None]]:
    """Return dead letters in the order of ids, each with the id of its user, if stored."""
    rows = session.execute(
        select(ProvisioningAttempt, User.id)
        .outerjoin(User, User.clerk_id == ProvisioningAttempt.clerk_id)
        .where(IS_DEAD, ProvisioningAttempt.id > after_id)
        .order_by(ProvisioningAttempt.id)
        .limit(limit)
    )
    return [(attempt, user_id) for attempt, user_id in rows]


def load_dead_letter(session: Session, attempt_id: int) -> ProvisioningAttempt:
    """Return one dead letter, locked; raises NoResultFound."""
    found = select(ProvisioningAttempt).where(ProvisioningAttempt.id == attempt_id, IS_DEAD)
    return session.scalars(found.with_for_update()).one()


def reset_attempt(session: Session, clerk_id: str, now: datetime) -> None:
    """Make the user's attempt, if it still exists, due at once, also a dead letter."""
    session.execute(_reset(now).where(ProvisioningAttempt.clerk_id == clerk_id))


def reset_all_attempts(session: Session, now: datetime, *, source: Source) -> int:
    """Make every attempt due at once, also dead letters; return how many, recorded in the audit."""
    count = len(session.scalars(_reset(now).returning(ProvisioningAttempt.id)).all())
    if count:
        record_action(session, source, "retry_all", count=count)
    return count


def _reset(now: datetime) -> Update:
    values = {"state": AttemptState.PENDING, "attempts": 0, "next_attempt_at": now}
    return update(ProvisioningAttempt).values(values)


def delete_attempt(session: Session, user_id: int, *, source: Source) -> list[str]:
    """Delete the user's attempt, with its error in the audit log; raises UnknownUserError."""
    user = load_user_for_update(session, user_id)
    deleted = delete(ProvisioningAttempt).where(ProvisioningAttempt.clerk_id == user.clerk_id)
    attempt = session.scalars(deleted.returning(ProvisioningAttempt)).one_or_none()
    if attempt is not None:
        record_action(session, source, "discard", user=user, error=attempt.error_class)
    return []
