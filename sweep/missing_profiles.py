"""Users who should have a profile and have none, computed from the tables each time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, exists, func, or_, select, text
from sqlalchemy.orm import Session, aliased

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import UNUSABLE_ANSWER
from provisioning import audit
from provisioning.profiles import (
    SHOULD_HAVE_PROFILE,
    Unlinked,
    has_unlinked_match,
    insert_missing_profiles,
)
from provisioning.rules import Rules

Range = tuple[int, int]  # ids, the first excluded, the last included
Bounds = tuple[Any, Any]  # the same, or its bind parameters in a statement

OtherUnlinked = aliased(Mentorado)  # another unlinked profile with the same address

# If the table of profiles was empty when it was last analysed, PostgreSQL would choose a nested
# loop that is quadratic in the number of users.
NO_NESTED_LOOP = text("SELECT set_config('enable_nestloop', 'off', true)")


NEXT_IDS = (
    select(User.id)
    .where(User.id > bindparam("after_id"))
    .order_by(User.id)
    .limit(bindparam("size"))
    .subquery()
)
LAST_OF_NEXT = select(func.max(NEXT_IDS.c.id))


def count_missing(session: Session) -> int:
    """Count the users who should have a profile and have none, without those of the attempts."""
    session.execute(NO_NESTED_LOOP)
    missing = select(func.count()).select_from(User).where(*_is_due())
    return session.scalars(missing).one()


def missing_since(session: Session, rules: Rules) -> tuple[int, datetime | None]:
    """Return `count_missing` under these rules, and when the first of these users was created.

    Includes the users who wait while the auto-create switch is off.
    """
    session.execute(NO_NESTED_LOOP)
    due = [*_is_due(), has_unlinked_match()] if rules.invited_only else _is_due()
    missing = select(func.count(), func.min(User.created_at)).select_from(User).where(*due)
    number, since = session.execute(missing).one()
    return number, since


def next_range(session: Session, after_id: int, size: int) -> Range | None:
    """Return the ids of the next `size` users after `after_id`; None after the last."""
    last = session.scalars(LAST_OF_NEXT, {"after_id": after_id, "size": size}).one()
    return None if last is None else (after_id, last)


def create_range_with_locks(session: Session, ids: Range) -> tuple[int, int]:
    """Create profiles for the users of a range who need no decision, in one statement.

    Returns how many users were due and how many got a profile: a user who signs in meanwhile has
    one already. Users whose row an admin's change locks are skipped; a later run finds them again.
    """
    due = (
        select(User.id, User.name, User.email, User.image_url)
        .where(*_needs_no_decision(ids))
        .with_for_update(read=True, key_share=True, skip_locked=True)
        .cte("due")
    )
    created = insert_missing_profiles(due).returning(Mentorado.id, Mentorado.user_id).cte("created")
    recorded = audit.insert_events_of(created, audit.sweep_event_values("mentorado_created")).cte(
        "recorded"
    )
    counts = [select(func.count()).select_from(cte).scalar_subquery() for cte in (due, created)]
    row = session.execute(select(*counts).add_cte(recorded)).one()
    return row[0], row[1]


def count_range(session: Session, ids: Range) -> int:
    """Count the users of a range who should get a profile and need no decision."""
    due = select(func.count()).select_from(User).where(*_needs_no_decision(ids))
    return session.scalars(due).one()


def first_in_range(session: Session, ids: Range, limit: int) -> list[int]:
    """Return the first user ids that `count_range` counts."""
    due = select(User.id).where(*_needs_no_decision(ids))
    return list(session.scalars(due.order_by(User.id).limit(limit)))


def clerk_ids(session: Session, ids: Range) -> Sequence[str]:
    """Return the Clerk ids of the users that `count_range` counts."""
    return session.scalars(select(User.clerk_id).where(*_needs_no_decision(ids))).all()


def next_unlinked_range(session: Session, after_id: int, size: int) -> Range | None:
    """Return the ids of the next `size` unlinked profiles after `after_id`; None after the last."""
    ids = select(Unlinked.id).where(*has_unlinked_address(), Unlinked.id > after_id)
    page = ids.order_by(Unlinked.id).limit(size).subquery()
    last = session.scalars(select(func.max(page.c.id))).one()
    return None if last is None else (after_id, last)


def linkable_users(session: Session, unlinked_ids: Range) -> list[str]:
    """Return the Clerk ids of users with the verified address of an unlinked profile in the range.

    These users have no profile, or an automatic one that could be merged into the unlinked one.
    """
    low, high = unlinked_ids
    is_same = func.normalized_address(User.email) == func.normalized_address(Unlinked.email)
    has_other_match = exists().where(
        OtherUnlinked.user_id.is_(None),
        OtherUnlinked.id != Unlinked.id,
        func.normalized_address(OtherUnlinked.email) == func.normalized_address(Unlinked.email),
    )
    is_mergeable = and_(
        Mentorado.created_automatically, Mentorado.edited_at.is_(None), ~has_other_match
    )
    found = session.scalars(
        select(User.clerk_id)
        .select_from(Unlinked)
        .join(User, and_(User.email_verified, is_same))
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .where(Unlinked.id > low, Unlinked.id <= high, *has_unlinked_address())
        .where(*_is_candidate(), or_(Mentorado.id.is_(None), is_mergeable))
        .order_by(Unlinked.id, User.id)
    )
    return list(dict.fromkeys(found))


def has_unlinked_address() -> tuple[ColumnElement[bool], ...]:
    """Of an unlinked profile: it has no owner and has an address."""
    return (Unlinked.user_id.is_(None), Unlinked.email.is_not(None))


def _is_candidate() -> tuple[ColumnElement[bool], ...]:
    """Of a user: it should have a profile, and has no failed attempt."""
    has_failed = exists().where(
        ProvisioningAttempt.clerk_id == User.clerk_id,
        ProvisioningAttempt.error_class != UNUSABLE_ANSWER,
    )
    return (*SHOULD_HAVE_PROFILE, ~has_failed)


def _is_due() -> tuple[ColumnElement[bool], ...]:
    return (*_is_candidate(), ~exists().where(Mentorado.user_id == User.id))


def is_due_within(ids: Bounds) -> tuple[ColumnElement[bool], ...]:
    """Of a user: in that range, should have a profile and has none.

    The range restricts the profiles as well; otherwise each batch would read all of them.
    """
    own = exists().where(Mentorado.user_id == User.id, *is_within(Mentorado.user_id, ids))
    return (*is_within(User.id, ids), *_is_candidate(), ~own)


def is_within(column: Any, ids: Bounds) -> tuple[ColumnElement[bool], ...]:
    """Of a column of user ids: in that range."""
    low, high = ids
    return (column > low, column <= high)


def _needs_no_decision(ids: Range) -> tuple[ColumnElement[bool], ...]:
    """Of a user: due, and no unlinked profile has its verified address."""
    return (*is_due_within(ids), ~has_unlinked_match())
