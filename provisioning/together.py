"""People for whom a profile waits, linked a group at a time where nothing else is in question.

What becomes of each is decided as for one alone, by `decide`; only the facts are read and the
links written for all of them at once. Whoever would get anything but a link is left to `ensure`,
and so is whoever is held by somebody else: a group waits for nobody, so that no circle comes about.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ARRAY, Integer, func, literal, select, text, update
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning import audit
from provisioning.difference import Waiting
from provisioning.linking import Action, Rules, Standing, decide
from provisioning.roles import is_in_line
from provisioning.waiting import ADDRESS_LOCKS

# Each takes a place in the server's table of locks, which has 64 for each connection.
GROUP_SIZE = 200
BRIEFLY = select(func.set_config("lock_timeout", "100ms", text("true")))


@dataclass(frozen=True, slots=True)
class Link:
    """A person and the profile that is theirs now."""

    user_id: int
    clerk_id: str
    mentorado_id: int


def link_together(session: Session, clerk_ids: Sequence[str], rules: Rules) -> list[Link]:
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
        if user is None or not is_in_line(user, rules.admin_emails):
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
    is_same = func.normalized_address(Waiting.email) == func.normalized_address(User.email)
    waiting = select(User.id, Waiting.id).join(Waiting, is_same).order_by(Waiting.id)
    found: dict[int, tuple[int, ...]] = {}
    for user_id, mentorado_id in session.execute(
        waiting.where(User.id.in_(ids), Waiting.user_id.is_(None))
    ):
        found[user_id] = (*found.get(user_id, ()), mentorado_id)
    return found


def _standing(user: User, matches: tuple[int, ...]) -> Standing:
    return Standing(
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
