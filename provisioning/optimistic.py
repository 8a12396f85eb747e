"""A range of people provided for as if nobody were in the way, and looked at before the commit.

Nobody is locked beforehand and no profile is asked for twice: that costs a third of a batch, and
nearly always for nothing. Whatever does come in between fails the whole batch, which is then done
again with care (`difference.provide_range`).
"""

from datetime import timedelta

from sqlalchemy import Select, and_, exists, func, not_, select, text, true
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning import audit
from provisioning.automatic import new_profiles
from provisioning.difference import (
    IS_MEANT_TO_HAVE_ONE,
    Range,
    Waiting,
    is_awaited,
    is_due_within,
    is_within,
    waits_for_an_address,
)

# Far below deadlock_timeout: who waits for us while we wait for them is never the one who gives in.
PATIENCE = timedelta(milliseconds=100)
FEW = 1_000  # waiting profiles; so many are looked up faster than the addresses of a range

# What is known of the tables' sizes is of before the sweep: a plan that reads one of them as a
# whole would be right for the first batch and read all profiles in every other.
CAREFREE = select(
    func.set_config("enable_seqscan", "off", text("true")),
    func.set_config("lock_timeout", f"{PATIENCE // timedelta(milliseconds=1)}ms", text("true")),
)
WERE_MADE_HERE = Mentorado.created_at == func.now()  # when this transaction began


class ContendedError(Exception):
    """Something has changed under a batch; it must not be committed."""


def provide_range(session: Session, people: Range) -> int:
    """Give everybody in the range who needs no decision a profile; returns how many.

    Raises ContendedError, and what the database raises where somebody else was faster, holds a row
    for longer than `PATIENCE`, or cannot have a profile: then nothing of it may stay.
    """
    session.execute(CAREFREE)
    created = _insert(session, people)
    # A new statement sees what has been committed since the one above began. By now our foreign
    # keys hold the rows of these people: an admin who would shut one of them out waits for us.
    if created and (_is_anybody_shut_out(session, people) or _is_anybody_awaited(session, people)):
        raise ContendedError(f"somebody with an id in {people} needs a decision")
    return created


def _insert(session: Session, people: Range) -> int:
    due = select(User.id, User.name, User.email, User.image_url).where(*is_due_within(people))
    made = new_profiles(due.subquery("due")).returning(Mentorado.id, Mentorado.user_id).cte("made")
    recorded = audit.record_of(made, "mentorado_created").cte("recorded")
    return session.scalars(select(func.count()).select_from(made).add_cte(recorded)).one()


def _is_anybody_shut_out(session: Session, people: Range) -> bool:
    """Whether somebody got a profile who has been blocked, deleted or promoted meanwhile."""
    theirs = and_(Mentorado.user_id == User.id, WERE_MADE_HERE)
    wrong = exists().where(*is_within(User.id, people), theirs, not_(and_(*IS_MEANT_TO_HAVE_ONE)))
    return session.scalars(select(wrong)).one()


def _is_anybody_awaited(session: Session, people: Range) -> bool:
    """Whether somebody got a profile although another one waits for them."""
    waiting = select(Waiting.id).where(*waits_for_an_address()).limit(FEW + 1).subquery()
    number = session.scalars(select(func.count()).select_from(waiting)).one()
    if number == 0:
        return False
    awaited = _found_by_waiting(people) if number <= FEW else _found_by_person(people)
    ids = session.scalars(awaited).all()
    made = exists().where(Mentorado.user_id.in_(ids), WERE_MADE_HERE)
    return bool(ids) and session.scalars(select(made)).one()


def _found_by_waiting(people: Range) -> Select[int]:
    """Awaited people in the range, looked up one waiting address after the other."""
    is_same = func.normalized_address(User.email) == func.normalized_address(Waiting.email)
    # The offset keeps PostgreSQL from any other order, however many it believes are waiting.
    found = select(User.id).where(User.email_verified, is_same).offset(0).lateral("found")
    waiting = select(found.c.id).select_from(Waiting).join(found, true())
    return waiting.where(*waits_for_an_address(), *is_within(found.c.id, people))


def _found_by_person(people: Range) -> Select[int]:
    """The same, looked up one person after the other."""
    return select(User.id).where(*is_within(User.id, people), is_awaited())
