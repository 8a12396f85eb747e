"""Which profile has an address already: one definition for a single registration and for a list."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    Text,
    and_,
    any_,
    cast,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning.references import referenced_among
from provisioning.waiting import ADDRESS_LOCKS

IS_UNEDITED = and_(Mentorado.created_automatically, Mentorado.edited_at.is_(None))


@dataclass(frozen=True, slots=True)
class Holder:
    """The profile that has an address.

    `clerk_id` is set only where a registration may write into this profile: it is untouched, and
    its owner, who is that user, has proven the address.
    """

    mentorado_id: int
    clerk_id: str | None = None
    user_id: int | None = None

    @property
    def can_take_over(self) -> bool:
        """Whether a registration of the address writes into this profile."""
        return self.clerk_id is not None


@dataclass(frozen=True, slots=True)
class _Found:
    """One profile that has an address, as the database tells it."""

    mentorado_id: int
    user_id: int | None
    clerk_id: str | None
    is_proven: bool
    is_unedited: bool

    @property
    def is_waiting(self) -> bool:
        return self.user_id is None


def normalized_addresses(session: Session, addresses: Sequence[str]) -> list[str | None]:
    """Return the key of each address; two addresses are one when their keys are equal."""
    given = _table_of(addresses)
    keys = select(func.normalized_address(given.c.address)).order_by(given.c.number)
    return list(session.scalars(keys))


def lock_addresses(session: Session, addresses: Sequence[str]) -> None:
    """Exclude every other writer and login of these addresses until the commit.

    Locks as a login does: first the rows of users who have proven one of the addresses, by id, then
    the addresses, by key; profiles come after, so that there is no deadlock. FOR UPDATE, because a
    profile that the sweep inserts takes a key share of its user's row and no address lock. Each
    address takes a place in the server's table of locks: call it for some hundred at most.
    """
    if not addresses:
        return
    given = _table_of(addresses)
    proven = select(User.id).join(given, _is_same(User.email, given.c.address))
    proven = proven.where(User.email_verified).order_by(User.id)
    session.execute(proven.with_for_update(of=User))
    key = func.hashtext(func.normalized_address(given.c.address)).label("key")
    keys = select(key).distinct().order_by(key).subquery()
    session.execute(select(func.pg_advisory_xact_lock(ADDRESS_LOCKS, keys.c.key)))


def find_holders(
    session: Session,
    addresses: Sequence[str],
    *,
    apart_from: int | None = None,
    for_update: bool = False,
) -> list[Holder | None]:
    """Return for each address the profile that has it, None where a new one may be registered.

    A profile without owner has its address. One with an owner has the address that its owner has
    proven, and the one that it carries itself, unless that is a copy of an address that its owner
    has *not* proven: otherwise anybody could keep somebody else from being registered. The profile
    whose id is `apart_from` does not count. Two statements, whatever the number of addresses;
    they lock nothing, except that `for_update` locks the profiles that may be taken over, whose
    addresses the caller has locked before.
    """
    session.flush()  # what the caller has changed counts as well
    found: dict[int, dict[int, _Found]] = defaultdict(dict)
    if addresses:
        for number, *row in session.execute(_holders(_table_of(addresses), apart_from)):
            one, known = _Found(*row), found[number].get(row[0])
            found[number][row[0]] = one if known is None or one.is_proven else known
    candidates = [c.mentorado_id for each in found.values() if (c := _candidate(each.values()))]
    untouched = _untouched(session, candidates, for_update=for_update)
    numbers = range(1, len(addresses) + 1)
    return [_holder(found[number].values(), untouched) for number in numbers]


def _table_of(addresses: Sequence[str]) -> Any:
    """A table of the addresses, numbered from 1."""
    all_of_them = literal(list(addresses), ARRAY(Text))
    table = func.unnest(all_of_them).table_valued("address", with_ordinality="number")
    return table.render_derived(name="given")


def _is_same(column: Any, address: Any) -> ColumnElement[bool]:
    return func.normalized_address(column) == func.normalized_address(address)


def _holders(given: Any, apart_from: int | None) -> CompoundSelect[Any]:
    """Select every profile that has one of the addresses; each part reads an index of its own."""
    profile, key = (given.c.number, Mentorado.id), func.normalized_address(given.c.address)
    owner = (User.id, User.clerk_id)
    waiting = (
        select(*profile, cast(null(), Integer), cast(null(), Text), false(), false())
        .join_from(given, Mentorado, func.normalized_address(Mentorado.email) == key)
        .where(Mentorado.user_id.is_(None))
    )
    proven = (
        select(*profile, *owner, true(), IS_UNEDITED)
        .join_from(given, User, and_(User.email_verified, _is_same(User.email, given.c.address)))
        .join(Mentorado, Mentorado.user_id == User.id)
    )
    is_other = ~_is_same(User.email, given.c.address)
    carried = (
        select(*profile, *owner, false(), IS_UNEDITED)
        .join_from(given, Mentorado, Mentorado.email == any_(array([given.c.address, key])))
        .join(User, User.id == Mentorado.user_id)
        .where(or_(User.email_verified, is_other, User.email.is_(None)))
    )
    parts = (waiting, proven, carried)
    return union_all(*(p.where(Mentorado.id.is_distinct_from(apart_from)) for p in parts))


def _candidate(found: Iterable[_Found]) -> _Found | None:
    """The one profile that may be taken over if nothing refers to it."""
    alone = list(found)
    if len(alone) != 1 or alone[0].is_waiting:
        return None
    return alone[0] if alone[0].is_proven and alone[0].is_unedited else None


def _holder(found: Iterable[_Found], untouched: set[int]) -> Holder | None:
    """Choose whom to name: a profile that waits before one that has an owner, then the older."""
    first = min(found, key=lambda one: (not one.is_waiting, one.mentorado_id), default=None)
    if first is None:
        return None
    candidate = _candidate(found)
    if candidate is None or candidate.mentorado_id not in untouched:
        return Holder(first.mentorado_id)
    return Holder(first.mentorado_id, first.clerk_id, first.user_id)


def _untouched(session: Session, mentorado_ids: Sequence[int], *, for_update: bool) -> set[int]:
    """Those of the profiles that no person has edited and to which no row of any table refers.

    Locked first, in the order of their ids: a month that is being saved meanwhile either shows up
    in the second statement or fails on its foreign key.
    """
    if not mentorado_ids:
        return set()
    unedited = set(mentorado_ids)
    if for_update:
        these = select(Mentorado.id).where(Mentorado.id.in_(mentorado_ids), IS_UNEDITED)
        unedited = set(session.scalars(these.order_by(Mentorado.id).with_for_update()))
    return unedited - referenced_among(session, sorted(unedited))
