"""A range of people provided for as if nobody were in the way, and looked at before the commit.

Nobody is locked beforehand and no profile is asked for twice: that costs a third of a batch, and
nearly always for nothing. Whatever does come in between fails the whole batch, which is then done
again with care (`difference.provide_range`).
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import Select, and_, bindparam, exists, func, not_, select, text, true
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning import audit
from provisioning.automatic import new_profiles
from provisioning.difference import (
    IS_MEANT_TO_HAVE_ONE,
    Bounds,
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

SETTINGS = {
    # What is known of the tables' sizes is of before the sweep: a plan that reads one of them as a
    # whole would be right for the first batch and read all profiles in every other.
    "enable_seqscan": "off",
    "lock_timeout": f"{PATIENCE // timedelta(milliseconds=1)}ms",
}
BOUNDS: Bounds = (bindparam("low"), bindparam("high"))
WERE_MADE_HERE = Mentorado.created_at == func.now()  # when this transaction began


def _insertion() -> Select[int]:
    """Profiles and their records, and how many there are."""
    due = select(User.id, User.name, User.email, User.image_url).where(*is_due_within(BOUNDS))
    made = new_profiles(due.subquery("due")).returning(Mentorado.id, Mentorado.user_id).cte("made")
    recorded = audit.record_of(made, audit.by_the_sweep("mentorado_created")).cte("recorded")
    return select(func.count()).select_from(made).add_cte(recorded)


def _found_by_waiting() -> Select[int]:
    """Awaited people in the range, looked up one waiting address after the other."""
    is_same = func.normalized_address(User.email) == func.normalized_address(Waiting.email)
    # The offset keeps PostgreSQL from any other order, however many it believes are waiting.
    found = select(User.id).where(User.email_verified, is_same).offset(0).lateral("found")
    waiting = select(found.c.id).select_from(Waiting).join(found, true())
    return waiting.where(*waits_for_an_address(), *is_within(found.c.id, BOUNDS))


def _count_of_waiting() -> Select[int]:
    some = select(Waiting.id).where(*waits_for_an_address()).limit(bindparam("enough"))
    return select(func.count()).select_from(some.subquery())


# Built once: building them for each batch would take a tenth of its time.
CAREFREE = select(*(func.set_config(name, to, text("true")) for name, to in SETTINGS.items()))
INSERTION = _insertion()
SHUT_OUT = select(User.id).where(*is_within(User.id, BOUNDS), not_(and_(*IS_MEANT_TO_HAVE_ONE)))
COUNT_OF_WAITING = _count_of_waiting()
FOUND_BY_WAITING = _found_by_waiting()
FOUND_BY_PERSON = select(User.id).where(*is_within(User.id, BOUNDS), is_awaited())


class ContendedError(Exception):
    """Something has changed under a batch; it must not be committed."""


def provide_range(session: Session, people: Range) -> int:
    """Give everybody in the range who needs no decision a profile; returns how many.

    Raises ContendedError, and what the database raises where somebody else was faster, holds a row
    for longer than `PATIENCE`, or cannot have a profile: then nothing of it may stay.
    """
    bounds = {"low": people[0], "high": people[1]}
    session.execute(CAREFREE)
    created = session.scalars(INSERTION, bounds).one()
    # A new statement sees what has been committed since the one above began. By now our foreign
    # keys hold the rows of these people: an admin who would shut one of them out waits for us.
    if created and _was_made_for_any(session, _doubtful(session, bounds)):
        raise ContendedError(f"somebody with an id in {people} needs a decision")
    return created


def _doubtful(session: Session, bounds: Mapping[str, int]) -> list[int]:
    """Who should not have got a profile: shut out by now, or another one waits for them."""
    doubtful = list(session.scalars(SHUT_OUT, bounds))
    waiting = session.scalars(COUNT_OF_WAITING, {"enough": FEW + 1}).one()
    if waiting:
        doubtful += session.scalars(FOUND_BY_WAITING if waiting <= FEW else FOUND_BY_PERSON, bounds)
    return doubtful


def _was_made_for_any(session: Session, user_ids: Sequence[int]) -> bool:
    """Whether one of these people got a profile here."""
    made = exists().where(Mentorado.user_id.in_(user_ids), WERE_MADE_HERE)
    return bool(user_ids) and session.scalars(select(made)).one()
