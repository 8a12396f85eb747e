"""Which profile has an address already: one definition for a single registration and for a list."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Integer,
    String,
    Text,
    and_,
    any_,
    cast,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.email_address import lower_ascii, normalize_address
from models import Mentorado, User
from provisioning.profiles import ADDRESS_LOCKS
from provisioning.references import referenced_among

IS_UNEDITED = and_(Mentorado.created_automatically, Mentorado.edited_at.is_(None))
user_key = func.normalized_address(User.email)
profile_key = func.normalized_address(Mentorado.email)


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it is written, and its key; two addresses are one when their keys are equal."""

    written: str
    key: str


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


def address_matches(column: InstrumentedAttribute[str | None], wanted: str) -> ColumnElement[bool]:
    """Whether an address has a text in it, in any case of ASCII letters, or is the same address.

    For people who search: no locale makes one address of look-alikes, and other spellings of a
    domain are found.
    """
    has_it = func.lower(column.collate("C")).contains(lower_ascii(wanted), autoescape=True)
    return or_(has_it, func.normalized_address(column) == normalize_address(wanted))


def addresses_of(session: Session, written: Sequence[str]) -> list[Address]:
    """Return the addresses with their keys, which the database makes; in the same order."""
    if not written:
        return []
    sent = func.unnest(literal(list(written), ARRAY(Text)))
    table = sent.table_valued("address", with_ordinality="number").render_derived(name="sent")
    keys = select(func.normalized_address(table.c.address)).order_by(table.c.number)
    return [
        Address(address, key or "")
        for address, key in zip(written, session.scalars(keys), strict=True)
    ]


def lock_users_and_addresses(session: Session, addresses: Sequence[Address]) -> None:
    """Exclude every other writer and login of these addresses until the commit.

    Locks as a login does: first the rows of users who have proven one of the addresses, by id, then
    the addresses, by key; profiles come after, so that there is no deadlock. FOR UPDATE, because a
    profile that the sweep inserts takes a key share of its user's row and no address lock. Each
    address takes a place in the server's table of locks: call it for some hundred at most.
    """
    if not addresses:
        return
    keys = _array(address.key for address in addresses)
    # An ORDER BY that the primary key cannot satisfy: a walk along it would read all users.
    proven = select(User.id).where(User.email_verified, user_key == any_(keys))
    session.execute(proven.order_by(User.id + 0).with_for_update())
    lock = func.hashtext(func.unnest(keys).column_valued("key")).label("lock")
    locks = select(lock).distinct().order_by(lock).subquery()
    session.execute(select(func.pg_advisory_xact_lock(ADDRESS_LOCKS, locks.c.lock)))


def find_holders(
    session: Session,
    addresses: Sequence[Address],
    *,
    apart_from: int | None = None,
    for_update: bool = False,
) -> list[Holder | None]:
    """Return for each address the profile that has it, None where a new one may be registered.

    A profile without owner has its address. One with an owner has the address that its owner has
    proven, and the one that it carries itself, unless that is a copy of an address that its owner
    has *not* proven: otherwise a user could keep another one from being registered. The profile
    whose id is `apart_from` does not count. A few statements, whatever the number of addresses;
    they lock nothing, except that `for_update` locks the profiles that may be taken over, whose
    addresses the caller has locked before.
    """
    if not addresses:
        return []
    session.flush()  # what the caller has changed counts as well
    found: dict[str, dict[int, _Found]] = defaultdict(dict)
    for key, *row in session.execute(_holders(addresses)):
        one = _Found(*row)
        known = found[key].get(one.mentorado_id)
        if one.mentorado_id != apart_from and (known is None or one.is_proven):
            found[key][one.mentorado_id] = one
    candidates = [c.mentorado_id for each in found.values() if (c := _candidate(each.values()))]
    untouched = _untouched(session, candidates, for_update=for_update)
    return [_holder(found[address.key].values(), untouched) for address in addresses]


def _array(values: Iterable[str]) -> ColumnElement[Any]:
    return literal(list(values), ARRAY(Text))


def _holders(addresses: Sequence[Address]) -> CompoundSelect[Any]:
    """Select every profile that has one of the addresses, with the key of that address.

    The addresses are constants of the statement, not a table to be joined: where the server knows
    too little about its own tables, the worst that it does is to read one of them once.
    """
    keys = _array(address.key for address in addresses)
    written = _array({text for address in addresses for text in (address.written, address.key)})
    no_owner = (cast(null(), Integer), cast(null(), Text), false(), false())
    waiting = select(profile_key, Mentorado.id, *no_owner).where(
        Mentorado.user_id.is_(None), profile_key == any_(keys)
    )
    proven = (
        select(user_key, Mentorado.id, User.id, User.clerk_id, true(), IS_UNEDITED)
        .join(User, User.id == Mentorado.user_id)
        .where(User.email_verified, user_key == any_(keys))
    )
    carried = (
        select(profile_key, Mentorado.id, User.id, User.clerk_id, false(), IS_UNEDITED)
        .join(User, User.id == Mentorado.user_id)
        .where(
            or_(
                and_(Mentorado.user_id.is_not(None), not_(IS_UNEDITED), profile_key == any_(keys)),
                # A copy of the owner's address: no index has its key.
                Mentorado.email == any_(cast(written, ARRAY(String))),
            )
        )
        .where(or_(User.email_verified, user_key != profile_key, User.email.is_(None)))
    )
    return union_all(waiting, proven, carried)


def _candidate(found: Iterable[_Found]) -> _Found | None:
    """The one profile that may be taken over if nothing refers to it."""
    alone = list(found)
    if len(alone) != 1 or alone[0].is_waiting:
        return None
    return alone[0] if alone[0].is_proven and alone[0].is_unedited else None


def _holder(found: Iterable[_Found], untouched: set[int]) -> Holder | None:
    """Choose which profile to name: one that waits before one that has an owner, then the older."""
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
