"""Who is due a profile and has none: computed each time from what is there, never remembered."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, text
from sqlalchemy.orm import Session, aliased

from models import Mentorado, ProvisioningAttempt, User
from models.provisioning_attempt import UNUSABLE_ANSWER
from provisioning import audit
from provisioning.profiles import (
    SHOULD_HAVE_PROFILE,
    Unlinked,
    automatic_profiles,
    has_unlinked_match,
)
from provisioning.rules import Rules

Range = tuple[int, int]  # ids, the first excluded, the last included
Bounds = tuple[Any, Any]  # the same, or what stands for it in a statement

OtherUnlinked = aliased(Mentorado)  # another one with the same address

# With the table of profiles empty when it was last analysed, PostgreSQL would choose a nested loop
# that is quadratic in the number of people.
NO_NESTED_LOOP = text("SELECT set_config('enable_nestloop', 'off', true)")


def count_missing(session: Session) -> int:
    """How many people are due a profile, apart from those with a record of failure."""
    session.execute(NO_NESTED_LOOP)
    missing = select(func.count()).select_from(User).where(*_is_due())
    return session.scalars(missing).one()


def missing_since(session: Session, rules: Rules) -> tuple[int, datetime | None]:
    """As `count_missing`, of those whom the rules mean to have one, and since when the first of
    them has been known; the switch may be off for a while, but they wait.
    """
    session.execute(NO_NESTED_LOOP)
    meant = [*_is_due(), has_unlinked_match()] if rules.invited_only else _is_due()
    counted = select(func.count(), func.min(User.created_at)).select_from(User).where(*meant)
    number, since = session.execute(counted).one()
    return number, since


def next_range(session: Session, after_id: int, size: int) -> Range | None:
    """The ids of the next `size` people after that one; None after the last."""
    ids = select(User.id).where(User.id > after_id).order_by(User.id).limit(size).subquery()
    last = session.scalars(select(func.max(ids.c.id))).one()
    return None if last is None else (after_id, last)


def create_range_with_locks(session: Session, people: Range) -> tuple[int, int]:
    """Give everybody in the range who needs no decision a profile, in one statement.

    Returns how many were due and how many got one: whoever signed in meanwhile has theirs already.
    Somebody whose row an admin holds is passed over, a later run comes by again.
    """
    due = (
        select(User.id, User.name, User.email, User.image_url)
        .where(*_needs_no_decision(people))
        .with_for_update(read=True, key_share=True, skip_locked=True)
        .cte("due")
    )
    made = automatic_profiles(due).returning(Mentorado.id, Mentorado.user_id).cte("made")
    recorded = audit.record_of(made, audit.by_the_sweep("mentorado_created")).cte("recorded")
    counts = [select(func.count()).select_from(cte).scalar_subquery() for cte in (due, made)]
    row = session.execute(select(*counts).add_cte(recorded)).one()
    return row[0], row[1]


def count_range(session: Session, people: Range) -> int:
    """How many in the range are due and need no decision."""
    due = select(func.count()).select_from(User).where(*_needs_no_decision(people))
    return session.scalars(due).one()


def first_in_range(session: Session, people: Range, limit: int) -> list[int]:
    """User ids of the first of them."""
    due = select(User.id).where(*_needs_no_decision(people))
    return list(session.scalars(due.order_by(User.id).limit(limit)))


def clerk_ids(session: Session, people: Range) -> Sequence[str]:
    """Clerk ids of all of them."""
    return session.scalars(select(User.clerk_id).where(*_needs_no_decision(people))).all()


def next_waiting(session: Session, after_id: int, size: int) -> Range | None:
    """The ids of the next `size` waiting profiles after that one; None after the last."""
    ids = select(Unlinked.id).where(*has_unlinked_address(), Unlinked.id > after_id)
    page = ids.order_by(Unlinked.id).limit(size).subquery()
    last = session.scalars(select(func.max(page.c.id))).one()
    return None if last is None else (after_id, last)


def linkable_users(session: Session, waiting: Range) -> list[str]:
    """Clerk ids of people with the proven address of a profile that waits, ids in that range.

    Those without a profile, and those whose automatic one could still be folded in.
    """
    low, high = waiting
    is_same = func.normalized_address(User.email) == func.normalized_address(Unlinked.email)
    has_rival = exists().where(
        OtherUnlinked.user_id.is_(None),
        OtherUnlinked.id != Unlinked.id,
        func.normalized_address(OtherUnlinked.email) == func.normalized_address(Unlinked.email),
    )
    is_foldable = and_(Mentorado.created_automatically, Mentorado.edited_at.is_(None), ~has_rival)
    found = session.scalars(
        select(User.clerk_id)
        .select_from(Unlinked)
        .join(User, and_(User.email_verified, is_same))
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .where(Unlinked.id > low, Unlinked.id <= high, *has_unlinked_address())
        .where(*_may_have_one(), or_(Mentorado.id.is_(None), is_foldable))
        .order_by(Unlinked.id, User.id)
    )
    return list(dict.fromkeys(found))


def has_unlinked_address() -> tuple[ColumnElement[bool], ...]:
    """Of a waiting profile: without owner, and with an address to be found by."""
    return (Unlinked.user_id.is_(None), Unlinked.email.is_not(None))


def _may_have_one() -> tuple[ColumnElement[bool], ...]:
    """Meant to have one, and not a case for the attempts."""
    has_record = exists().where(
        ProvisioningAttempt.clerk_id == User.clerk_id,
        ProvisioningAttempt.error_class != UNUSABLE_ANSWER,
    )
    return (*SHOULD_HAVE_PROFILE, ~has_record)


def _is_due() -> tuple[ColumnElement[bool], ...]:
    return (*_may_have_one(), ~exists().where(Mentorado.user_id == User.id))


def is_due_within(people: Bounds) -> tuple[ColumnElement[bool], ...]:
    """Of a person: in that range, due a profile and without one.

    The range is told of the profiles as well, or each batch would read all of them.
    """
    theirs = exists().where(Mentorado.user_id == User.id, *is_within(Mentorado.user_id, people))
    return (*is_within(User.id, people), *_may_have_one(), ~theirs)


def is_within(column: Any, people: Bounds) -> tuple[ColumnElement[bool], ...]:
    """Of an id of a user: in that range."""
    low, high = people
    return (column > low, column <= high)


def _needs_no_decision(people: Range) -> tuple[ColumnElement[bool], ...]:
    """Due, and no waiting profile has their proven address."""
    return (*is_due_within(people), ~has_unlinked_match())
