"""People for whom a profile waits, linked a group at a time where nothing else is in question.

What becomes of each is decided as for one alone, by `decide`; only the facts are read and the
links written for all of them at once. Whoever would get anything but a link is left to `ensure`,
and so is whoever is held by somebody else: a group waits for nobody, so that no circle comes about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    ARRAY,
    Integer,
    Select,
    and_,
    bindparam,
    exists,
    func,
    literal,
    not_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning import audit
from provisioning.profiles import (
    ADDRESS_LOCKS,
    SHOULD_HAVE_PROFILE,
    Unlinked,
    has_unlinked_match,
    new_profiles,
)
from provisioning.roles import is_role_current
from provisioning.rules import Action, DecisionFacts, Rules, decide
from sweep.missing_profiles import (
    Bounds,
    Range,
    has_unlinked_address,
    is_due_within,
    is_within,
)

# Each takes a place in the server's table of locks, which has 64 for each connection.
GROUP_SIZE = 200
BRIEFLY = select(func.set_config("lock_timeout", "100ms", text("true")))


@dataclass(frozen=True, slots=True)
class Link:
    """A person and the profile that is theirs now."""

    user_id: int
    clerk_id: str
    mentorado_id: int


def link_group(session: Session, clerk_ids: Sequence[str], rules: Rules) -> list[Link]:
    """Link those of the group of whom nothing else can become; the others are as before.

    Locks as a login does: people's rows, then addresses, then profiles, until the commit. Raises
    what the database raises; a caller that rolls back has written nothing.
    """
    session.execute(BRIEFLY)
    held = _hold(session, clerk_ids)
    # New statements, which see what those have committed who held somebody before us.
    people = {user.clerk_id: user for user in _without_profile(session, held)}
    matches = _matches(session, held)
    chosen: dict[int, User] = {}
    for clerk_id in clerk_ids:
        user = people.get(clerk_id)
        if user is None or not is_role_current(user, rules.admin_emails):
            continue
        decision = decide(_standing(user, matches.get(user.id, ())), rules)
        if decision.action is Action.LINK and decision.mentorado_id is not None:
            chosen.setdefault(decision.mentorado_id, user)  # two may have proven one address
    return _write(session, chosen) if chosen else []


def _hold(session: Session, clerk_ids: Sequence[str]) -> list[int]:
    """Ids of those whom nobody else holds, nor their address, and whom we hold from now on."""
    free = (
        select(User.id, User.email)
        .where(User.clerk_id.in_(clerk_ids), User.email_verified)
        .with_for_update(key_share=True, skip_locked=True)  # as strong as a login's
        .cte("free")
    )
    key = func.hashtext(func.normalized_address(free.c.email))
    held = select(free.c.id).where(func.pg_try_advisory_xact_lock(ADDRESS_LOCKS, key))
    return list(session.scalars(held))


def _without_profile(session: Session, ids: list[int]) -> Sequence[User]:
    alone = select(User).outerjoin(Mentorado, Mentorado.user_id == User.id)
    return session.scalars(
        alone.where(User.id.in_(ids), Mentorado.id.is_(None)),
        execution_options={"populate_existing": True},
    ).all()


def _matches(session: Session, ids: list[int]) -> dict[int, tuple[int, ...]]:
    """The waiting profiles with the proven address of each of them."""
    is_same = func.normalized_address(Unlinked.email) == func.normalized_address(User.email)
    waiting = select(User.id, Unlinked.id).join(Unlinked, is_same).order_by(Unlinked.id)
    found: dict[int, tuple[int, ...]] = {}
    for user_id, mentorado_id in session.execute(
        waiting.where(User.id.in_(ids), Unlinked.user_id.is_(None))
    ):
        found[user_id] = (*found.get(user_id, ()), mentorado_id)
    return found


def _standing(user: User, matches: tuple[int, ...]) -> DecisionFacts:
    return DecisionFacts(
        is_deleted=user.deleted_at is not None,
        is_blocked=user.blocked_at is not None,
        is_admin=user.is_admin,
        matches=matches,
    )


def _write(session: Session, chosen: dict[int, User]) -> list[Link]:
    """Give each profile to its person, unless somebody holds it or has taken it."""
    waiting = select(Mentorado.id).where(Mentorado.id.in_(chosen), Mentorado.user_id.is_(None))
    free = waiting.with_for_update(skip_locked=True).cte("free")
    ids = (list(chosen), [user.id for user in chosen.values()])
    pairs = func.unnest(*(literal(each, ARRAY(Integer)) for each in ids)).table_valued(
        "mentorado_id", "user_id"
    )
    pairs = pairs.render_derived(name="pairs")
    # The users are locked, so that their addresses hold; those of the profiles are compared here.
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(User.email)
    taken = (
        update(Mentorado)
        .where(Mentorado.id == pairs.c.mentorado_id, Mentorado.id == free.c.id)
        .where(User.id == pairs.c.user_id, User.email_verified, same_address)
        .values(user_id=pairs.c.user_id, updated_at=func.now())
        .returning(Mentorado.id, Mentorado.user_id)
        .cte("taken")
    )
    recorded = audit.record_of(taken, audit.by_the_sweep("mentorado_linked")).cte("recorded")
    rows = session.execute(select(taken.c.id).add_cte(recorded)).scalars()
    return [Link(chosen[row].id, chosen[row].clerk_id, row) for row in rows]


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
    is_same = func.normalized_address(User.email) == func.normalized_address(Unlinked.email)
    # The offset keeps PostgreSQL from any other order, however many it believes are waiting.
    found = select(User.id).where(User.email_verified, is_same).offset(0).lateral("found")
    waiting = select(found.c.id).select_from(Unlinked).join(found, true())
    return waiting.where(*has_unlinked_address(), *is_within(found.c.id, BOUNDS))


def _count_of_waiting() -> Select[int]:
    some = select(Unlinked.id).where(*has_unlinked_address()).limit(bindparam("enough"))
    return select(func.count()).select_from(some.subquery())


# Built once: building them for each batch would take a tenth of its time.
SESSION_SETTINGS = select(
    *(func.set_config(name, to, text("true")) for name, to in SETTINGS.items())
)
INSERTION = _insertion()
SHUT_OUT = select(User.id).where(*is_within(User.id, BOUNDS), not_(and_(*SHOULD_HAVE_PROFILE)))
COUNT_OF_WAITING = _count_of_waiting()
FOUND_BY_WAITING = _found_by_waiting()
FOUND_BY_PERSON = select(User.id).where(*is_within(User.id, BOUNDS), has_unlinked_match())


class ContendedError(Exception):
    """Something has changed under a batch; it must not be committed."""


def create_range(session: Session, people: Range) -> int:
    """Give everybody in the range who needs no decision a profile; returns how many.

    Raises ContendedError, and what the database raises where somebody else was faster, holds a row
    for longer than `PATIENCE`, or cannot have a profile: then nothing of it may stay.
    """
    bounds = {"low": people[0], "high": people[1]}
    session.execute(SESSION_SETTINGS)
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
