"""Find the profiles that have given addresses, for a single pre-registration and for a list."""

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
from sqlalchemy.orm import Session

from models import Mentorado, User
from provisioning.profiles import ADDRESS_LOCKS
from provisioning.references import referenced_among

user_key = func.normalized_address(User.email)
profile_key = func.normalized_address(Mentorado.email)


@dataclass(frozen=True, slots=True)
class Address:
    """An address as written, and its key; two addresses are the same if their keys are equal."""

    written: str
    key: str


@dataclass(frozen=True, slots=True)
class Holder:
    """The profile that has an address.

    `clerk_id` and `user_id` are set only where a registration may write into this profile: it is
    untouched, and that user owns it and has the verified address.
    """

    mentorado_id: int
    clerk_id: str | None = None
    user_id: int | None = None

    @property
    def can_take_over(self) -> bool:
        """Whether a registration of the address writes into this profile."""
        return self.clerk_id is not None


@dataclass(frozen=True, slots=True)
class _Match:
    """One profile that has an address, as a row of the query.

    `is_verified`: the address is the verified one of the profile's owner.
    """

    mentorado_id: int
    user_id: int | None
    clerk_id: str | None
    is_verified: bool
    is_unedited: bool

    @property
    def is_unlinked(self) -> bool:
        return self.user_id is None


def normalize_addresses(session: Session, written: Sequence[str]) -> list[Address]:
    """Return the addresses, in the same order, with their keys from the database."""
    if not written:
        return []
    rows = func.unnest(literal(list(written), ARRAY(Text)))
    table = rows.table_valued("address", with_ordinality="number").render_derived(name="written")
    keys = select(func.normalized_address(table.c.address)).order_by(table.c.number)
    return [
        Address(address, key or "")
        for address, key in zip(written, session.scalars(keys), strict=True)
    ]


def lock_users_and_addresses(session: Session, addresses: Sequence[Address]) -> None:
    """Exclude every other writer and login of these addresses until the commit.

    The order is that of a login, which prevents deadlocks: the rows of users with one of the
    verified addresses, by id; the addresses, by key; later the profiles. FOR UPDATE, because a
    profile that the sweep inserts takes a key share lock on its user's row and no address lock.
    Each address takes an entry in the server's lock table: pass a few hundred at most.
    """
    if not addresses:
        return
    keys = _array(address.key for address in addresses)
    # An ORDER BY that the primary key cannot satisfy: a scan of its index would read all users.
    verified = select(User.id).where(User.email_verified, user_key == any_(keys))
    session.execute(verified.order_by(User.id + 0).with_for_update())
    lock = func.hashtext(func.unnest(keys).column_valued("key")).label("lock")
    locks = select(lock).distinct().order_by(lock).subquery()
    session.execute(select(func.pg_advisory_xact_lock(ADDRESS_LOCKS, locks.c.lock)))


def find_holders(
    session: Session,
    addresses: Sequence[Address],
    *,
    ignored_id: int | None = None,
    for_update: bool = False,
) -> list[Holder | None]:
    """Return for each address the profile that has it, None where a new one may be registered.

    An unlinked profile has its own address. A linked one has the verified address of its owner, and
    its own address unless that is a copy of the owner's *unverified* one: otherwise a user could
    prevent the registration of another. The profile with `ignored_id` is ignored. The number of
    statements does not depend on the number of addresses. `for_update` locks the profiles that may
    be taken over; the caller has locked their addresses before.
    """
    if not addresses:
        return []
    session.flush()  # for the caller's changes
    matches: dict[str, dict[int, _Match]] = defaultdict(dict)
    for key, *row in session.execute(_select_matches(addresses)):
        match = _Match(*row)
        previous = matches[key].get(match.mentorado_id)
        if match.mentorado_id != ignored_id and (previous is None or match.is_verified):
            matches[key][match.mentorado_id] = match
    candidates = [c.mentorado_id for each in matches.values() if (c := _candidate(each.values()))]
    untouched = _untouched(session, candidates, for_update=for_update)
    return [_holder(matches[address.key].values(), untouched) for address in addresses]


def _array(values: Iterable[str]) -> ColumnElement[Any]:
    return literal(list(values), ARRAY(Text))


def _select_matches(addresses: Sequence[Address]) -> CompoundSelect[Any]:
    """Select every profile that has one of the addresses, with the key of that address.

    The addresses are constants of the statement, not a joined table: with poor statistics the worst
    plan reads one table once.
    """
    keys = _array(address.key for address in addresses)
    written = _array({text for address in addresses for text in (address.written, address.key)})
    no_owner = (cast(null(), Integer), cast(null(), Text), false(), false())
    unlinked = select(profile_key, Mentorado.id, *no_owner).where(
        Mentorado.user_id.is_(None), profile_key == any_(keys)
    )
    verified = (
        select(user_key, Mentorado.id, User.id, User.clerk_id, true(), Mentorado.is_unedited)
        .join(User, User.id == Mentorado.user_id)
        .where(User.email_verified, user_key == any_(keys))
    )
    own = (
        select(profile_key, Mentorado.id, User.id, User.clerk_id, false(), Mentorado.is_unedited)
        .join(User, User.id == Mentorado.user_id)
        .where(
            or_(
                and_(
                    Mentorado.user_id.is_not(None),
                    not_(Mentorado.is_unedited),
                    profile_key == any_(keys),
                ),
                # An automatic profile has a copy of the owner's address: no index has its key.
                Mentorado.email == any_(cast(written, ARRAY(String))),
            )
        )
        .where(or_(User.email_verified, user_key != profile_key, User.email.is_(None)))
    )
    return union_all(unlinked, verified, own)


def _candidate(matches: Iterable[_Match]) -> _Match | None:
    """Return the only match if it may be taken over, provided that nothing refers to it."""
    found = list(matches)
    if len(found) != 1 or found[0].is_unlinked:
        return None
    return found[0] if found[0].is_verified and found[0].is_unedited else None


def _holder(matches: Iterable[_Match], untouched: set[int]) -> Holder | None:
    """Choose the holder of an address: unlinked profiles first, then the oldest."""
    first = min(matches, key=lambda m: (not m.is_unlinked, m.mentorado_id), default=None)
    if first is None:
        return None
    candidate = _candidate(matches)
    if candidate is None or candidate.mentorado_id not in untouched:
        return Holder(first.mentorado_id)
    return Holder(first.mentorado_id, first.clerk_id, first.user_id)


def _untouched(session: Session, mentorado_ids: Sequence[int], *, for_update: bool) -> set[int]:
    """Return the ids of the profiles that are unedited and unreferenced.

    `for_update` locks them first, by id: a month that is being saved is either seen by the second
    statement or fails on its foreign key.
    """
    if not mentorado_ids:
        return set()
    unedited = set(mentorado_ids)
    if for_update:
        statement = select(Mentorado.id).where(
            Mentorado.id.in_(mentorado_ids), Mentorado.is_unedited
        )
        unedited = set(session.scalars(statement.order_by(Mentorado.id).with_for_update()))
    return unedited - referenced_among(session, sorted(unedited))
