"""Set-based steps of the sweep: link users in groups, and create profiles for ranges of ids.

`link_group` decides each user by `rules.decide`; it only reads the facts and writes the links for
all of them at once. Users with any other decision, and users with a locked row or address, are left
to `ensure`. A group skips locked rows, so it cannot be part of a deadlock.

`create_range` creates profiles without row locks and checks the result before the commit.
`create_range_with_locks` does so after a conflict, and skips locked rows.
"""

from collections.abc import Sequence

from sqlalchemy import (
    ARRAY,
    CTE,
    Insert,
    Integer,
    Row,
    Update,
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
    insert_missing_profiles,
    insert_profiles,
)
from provisioning.roles import is_role_current
from provisioning.rules import Action, DecisionFacts, Rules, decide
from sweep.missing_users import (
    HAS_UNLINKED_ADDRESS,
    Bounds,
    Range,
    is_due_within,
    is_within,
    needs_no_decision,
)

Links = Sequence[Row[int, int | None]]

# Each address takes an entry of the server's lock table, which has 64 for each connection.
GROUP_SIZE = 200
FEW = 1_000  # up to so many unlinked profiles it is faster to look up each than each user
# Far below deadlock_timeout: of two transactions that block each other, this one fails first.
SHORT_LOCK_WAIT = select(func.set_config("lock_timeout", "100ms", text("true")))
# The table statistics are from before the sweep. A plan with a sequential scan would be right for
# the first batch and read all profiles in every later one.
INSERTION_SETTINGS = SHORT_LOCK_WAIT.add_columns(
    func.set_config("enable_seqscan", "off", text("true"))
)


def link_group(session: Session, clerk_ids: Sequence[str], rules: Rules) -> Links:
    """Link the users of a group whose decision is a link; leave the others unchanged.

    Returns `user_id` and `mentorado_id` of each link. Locks in the order of a login: user rows,
    then addresses, then profiles, until the commit. Raises SQLAlchemyError; the caller must then
    roll back.
    """
    session.execute(SHORT_LOCK_WAIT)
    locked = _lock_users(session, clerk_ids)
    # New statements, which see the commits of transactions that held these locks before.
    without_profile = (
        select(User)
        .outerjoin(Mentorado, Mentorado.user_id == User.id)
        .where(User.id.in_(locked), Mentorado.id.is_(None))
        .execution_options(populate_existing=True)
    )
    users = {user.clerk_id: user for user in session.scalars(without_profile)}
    matches = _matches(session, locked)
    chosen: dict[int, User] = {}
    for clerk_id in clerk_ids:
        user = users.get(clerk_id)
        if user is None or not is_role_current(user, rules.admin_emails):
            continue
        facts = DecisionFacts(
            is_deleted=user.deleted_at is not None,
            is_blocked=user.blocked_at is not None,
            is_admin=user.is_admin,
            matches=matches.get(user.id, ()),
        )
        decision = decide(facts, rules)
        if decision.action is Action.LINK and decision.mentorado_id is not None:
            chosen.setdefault(decision.mentorado_id, user)  # two users may share an address
    return _write_links(session, chosen) if chosen else []


def _lock_users(session: Session, clerk_ids: Sequence[str]) -> list[int]:
    """Lock the rows and addresses that are free; return the ids of the users with both."""
    free = (
        select(User.id, User.email)
        .where(User.clerk_id.in_(clerk_ids), User.email_verified)
        .with_for_update(key_share=True, skip_locked=True)  # as strong as a login's
        .cte("free")
    )
    key = func.hashtext(func.normalized_address(free.c.email))
    locked = select(free.c.id).where(func.pg_try_advisory_xact_lock(ADDRESS_LOCKS, key))
    return list(session.scalars(locked))


def _matches(session: Session, ids: list[int]) -> dict[int, tuple[int, ...]]:
    """Return the unlinked profiles with the verified address of each user."""
    is_same = func.normalized_address(Unlinked.email) == func.normalized_address(User.email)
    pairs = select(User.id, Unlinked.id).join(Unlinked, is_same).order_by(Unlinked.id)
    found: dict[int, tuple[int, ...]] = {}
    for user_id, mentorado_id in session.execute(
        pairs.where(User.id.in_(ids), Unlinked.user_id.is_(None))
    ):
        found[user_id] = (*found.get(user_id, ()), mentorado_id)
    return found


def _write_links(session: Session, chosen: dict[int, User]) -> Links:
    """Link each profile to its user, unless the profile is locked or linked already."""
    unlinked = select(Mentorado.id).where(Mentorado.id.in_(chosen), Mentorado.user_id.is_(None))
    free = unlinked.with_for_update(skip_locked=True).cte("free")
    profile_ids = literal(list(chosen), ARRAY(Integer))
    user_ids = literal([user.id for user in chosen.values()], ARRAY(Integer))
    pairs = func.unnest(profile_ids, user_ids).table_valued("mentorado_id", "user_id")
    pairs = pairs.render_derived(name="pairs")
    # The users are locked, so their addresses cannot change; those of the profiles are compared.
    same_address = func.normalized_address(Mentorado.email) == func.normalized_address(User.email)
    linked, recorded = _with_events(
        update(Mentorado)
        .where(Mentorado.id == pairs.c.mentorado_id, Mentorado.id == free.c.id)
        .where(User.id == pairs.c.user_id, User.email_verified, same_address)
        .values(user_id=pairs.c.user_id, updated_at=func.now()),
        "mentorado_linked",
    )
    found = select(linked.c.id.label("mentorado_id"), linked.c.user_id)
    return session.execute(found.add_cte(recorded)).all()


def _with_events(change: Insert | Update, event: str) -> tuple[CTE, CTE]:
    """Return CTEs of a change of profiles, with ids and users' ids, and of its audit events."""
    changed = change.returning(Mentorado.id, Mentorado.user_id).cte("changed")
    recorded = audit.insert_events_of(changed, audit.sweep_event_values(event))
    return changed, recorded.cte("recorded")


# The statements of a range are built once: to build them for each batch would take a tenth of its
# time.
BOUNDS: Bounds = (bindparam("low"), bindparam("high"))
DUE_USERS = select(User.id, User.name, User.email, User.image_url)
CREATED, RECORDED = _with_events(
    insert_profiles(DUE_USERS.where(*is_due_within(BOUNDS)).subquery("due")), "mentorado_created"
)
INSERTION = select(func.count()).select_from(CREATED).add_cte(RECORDED)
# Users of the range who are excluded by now, and the number of unlinked profiles, if few.
EXCLUDED_USERS = select(User.id).where(
    *is_within(User.id, BOUNDS), not_(and_(*SHOULD_HAVE_PROFILE))
)
SOME_UNLINKED = select(Unlinked.id).where(*HAS_UNLINKED_ADDRESS).limit(FEW + 1).subquery()
DECISION_FACTS = select(
    func.array(EXCLUDED_USERS.scalar_subquery()),
    select(func.count()).select_from(SOME_UNLINKED).scalar_subquery(),
)
# Users of the range with an unlinked profile, looked up by the address of each profile. The offset
# fixes this join order, whatever number of unlinked profiles the planner estimates.
OWNERS = (
    select(User.id)
    .where(
        User.email_verified,
        func.normalized_address(User.email) == func.normalized_address(Unlinked.email),
    )
    .offset(0)
    .lateral("owners")
)
MATCHED_BY_PROFILE = (
    select(OWNERS.c.id)
    .select_from(Unlinked)
    .join(OWNERS, true())
    .where(*HAS_UNLINKED_ADDRESS, *is_within(OWNERS.c.id, BOUNDS))
)
MATCHED_BY_USER = select(User.id).where(*is_within(User.id, BOUNDS), has_unlinked_match())


class ContendedError(Exception):
    """A concurrent change concerns a batch, which must be rolled back."""


def create_range(session: Session, ids: Range) -> int:
    """Create profiles for the users of a range who need no decision; returns how many.

    Raises ContendedError after a concurrent change. Raises SQLAlchemyError if another transaction
    created a profile first or locks a row for longer than a tenth of a second, or if a row is
    refused. The caller must then roll back.
    """
    bounds = {"low": ids[0], "high": ids[1]}
    session.execute(INSERTION_SETTINGS)
    created = session.scalars(INSERTION, bounds).one()
    if created and _has_contended(session, bounds):
        raise ContendedError(f"a user with an id in {ids} needs a decision")
    return created


def _has_contended(session: Session, bounds: dict[str, int]) -> bool:
    """Whether this transaction has created a profile for a user who needs a decision by now.

    New statements see what was committed since the INSERT began. Its foreign keys now lock the rows
    of these users, so an admin's change that would exclude one of them waits.
    """
    user_ids: list[int]
    user_ids, unlinked = session.execute(DECISION_FACTS, bounds).one()
    if unlinked:
        query = MATCHED_BY_PROFILE if unlinked <= FEW else MATCHED_BY_USER
        user_ids = [*user_ids, *session.scalars(query, bounds)]
    is_new = Mentorado.created_at == func.now()  # now() is when this transaction began
    created = exists().where(Mentorado.user_id.in_(user_ids), is_new)
    return bool(user_ids) and session.scalars(select(created)).one()


def create_range_with_locks(session: Session, ids: Range) -> tuple[int, int]:
    """Create profiles for the users of a range who need no decision, in one statement.

    Returns how many users were due and how many got a profile: a user who signs in meanwhile has
    one already. Users whose row an admin's change locks are skipped; a later run finds them again.
    """
    due = (
        DUE_USERS.where(*needs_no_decision(ids))
        .with_for_update(read=True, key_share=True, skip_locked=True)
        .cte("due")
    )
    created, recorded = _with_events(insert_missing_profiles(due), "mentorado_created")
    counts = [select(func.count()).select_from(cte).scalar_subquery() for cte in (due, created)]
    row = session.execute(select(*counts).add_cte(recorded)).one()
    return row[0], row[1]
