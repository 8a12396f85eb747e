"""Who a person is, their rows in all tables, and everything that is kept about them.

`find_rows` finds the rows that belong to a person, by foreign keys; also of other programs:

1. Begin with the rows of the account and of the profiles.
2. Add the rows that refer to a found row, then the rows that refer to those, and so on.
3. A row that only names the account, and belongs to another person or to no person, is kept: one of
   this program's own tables (who requested a sweep), or one whose mandatory references lead to
   another account or profile. It is listed apart.
4. So is a row with an optional reference to a found row that belongs to another person.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session
from typing_extensions import TypedDict

from core.types import Timestamp
from models import Mentorado, User
from provisioning.errors import UnknownUserError
from provisioning.profiles import DEFAULT_NAME, lock_addresses
from provisioning.references import (
    MENTORADOS,
    Reference,
    StoredRow,
    by_leaf,
    escaped,
    keys_of,
    references_to,
    rows_by_id,
    rows_referring,
)

USERS = "users"
PERSONS = (USERS, MENTORADOS)
Key = tuple[int, str]  # of a `StoredRow`
SHORTEST_VALUE = 6  # shorter texts are parts of other words

# The profiles that the account had, and that no other account has had since; an unlinked one counts
# if the account's deletion has unlinked it. Then the profiles that were merged into one of them.
PAST_PROFILES = text("""
    WITH RECURSIVE latest AS (
        SELECT DISTINCT ON (e.mentorado_id) e.mentorado_id, e.user_id, e.event
          FROM audit_events e
         WHERE e.user_id IS NOT NULL AND e.mentorado_id IN (
               SELECT mentorado_id FROM audit_events WHERE user_id = :user_id)
         ORDER BY e.mentorado_id, e.id DESC
    ), past AS (
        SELECT l.mentorado_id AS id
          FROM latest l LEFT JOIN mentorados m ON m.id = l.mentorado_id
         WHERE l.user_id = :user_id
           AND (m.id IS NULL OR (m.user_id IS NULL AND l.event = 'user_deleted'))
         UNION SELECT unnest(CAST(:profile_ids AS integer[]))
    ), merged AS (
        SELECT id FROM past
         UNION SELECT a.mentorado_id FROM merged g JOIN archived_rows a
                   ON a.kept_mentorado_id = g.id AND a.reason = 'merge'
    )
    SELECT g.id, m.id IS NOT NULL AND m.user_id IS NULL AS is_unlinked
      FROM merged g LEFT JOIN mentorados m ON m.id = g.id
""")
UNLINKED_PROFILES = text("""
    SELECT id FROM mentorados
     WHERE user_id IS NULL AND normalized_address(email) = normalized_address(:address)
""")
# The records without foreign keys that are about the person.
EVENTS = "user_id = :user_id OR (mentorado_id = ANY (:past_ids) AND user_id IS NULL)"
RECORDS = {
    "audit_events": EVENTS,
    "archived_rows": "mentorado_id = ANY (:past_ids) OR kept_mentorado_id = ANY (:past_ids)",
    "provisioning_attempts": "clerk_id = :clerk_id",
}


@dataclass(frozen=True, slots=True)
class Person:
    """An account, its profiles, and all profiles that it has had; or profiles without an account.

    `values` are the texts that identify the person: Clerk id, addresses, names, photos.
    """

    user_id: int | None
    clerk_id: str | None
    profile_ids: tuple[int, ...]
    past_ids: tuple[int, ...]
    values: tuple[str, ...] = field(repr=False)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the statements above."""
        past_ids = list(self.past_ids)
        return {"user_id": self.user_id, "clerk_id": self.clerk_id, "past_ids": past_ids}


def find_person(session: Session, user_id: int, *, lock: bool = False) -> Person:
    """Return the person of an account; raises UnknownUserError."""
    user = session.get(User, user_id, with_for_update=lock, populate_existing=True)
    if user is None:
        raise UnknownUserError(f"there is no user {user_id}")
    if lock and user.email:
        lock_addresses(session, [user.email])
    address = user.email if user.email_verified else None
    return _person(session, user, _unlinked_ids(session, address), lock=lock)


def find_person_without_account(session: Session, address: str, *, lock: bool = False) -> Person:
    """Return the pre-registered person with an address; raises UnknownUserError."""
    if lock:
        lock_addresses(session, [address])
    profile_ids = _unlinked_ids(session, address)
    if not profile_ids:
        raise UnknownUserError("there is no account or profile with that address")
    return _person(session, None, profile_ids, lock=lock)


def _unlinked_ids(session: Session, address: str | None) -> list[int]:
    return list(session.scalars(UNLINKED_PROFILES, {"address": address})) if address else []


def _person(
    session: Session, user: User | None, unlinked_ids: Collection[int], *, lock: bool
) -> Person:
    user_id = user.id if user else None
    owned = select(Mentorado.id).where(Mentorado.user_id == user_id)
    known_ids = [*unlinked_ids, *(session.scalars(owned) if user else ())]
    past = session.execute(PAST_PROFILES, {"user_id": user_id, "profile_ids": known_ids}).all()
    profile_ids = sorted({*known_ids, *(row.id for row in past if row.is_unlinked)})
    chosen = select(Mentorado).where(Mentorado.id.in_(profile_ids)).order_by(Mentorado.id)
    profiles = session.scalars(
        chosen.with_for_update() if lock else chosen, execution_options={"populate_existing": True}
    ).all()
    return Person(
        user_id,
        user.clerk_id if user else None,
        tuple(profile.id for profile in profiles),
        tuple(sorted({*profile_ids, *(row.id for row in past)})),
        _identifying_values(user, profiles),
    )


def _identifying_values(user: User | None, profiles: Sequence[Mentorado]) -> tuple[str, ...]:
    """Return the texts that identify a person, the longest first."""
    texts = [user.clerk_id, user.email, user.name, user.image_url] if user else []
    for profile in profiles:
        texts += [profile.email, profile.nome_completo, profile.foto_url]
    values = {value for value in texts if value and len(value) >= SHORTEST_VALUE}
    return tuple(sorted(values - {DEFAULT_NAME}, key=lambda value: (-len(value), value)))


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """A row of another person or of none, and the keys by which it refers to this person's rows."""

    row: StoredRow
    references: list[tuple[str, Reference]] = field(default_factory=list)


@dataclass(slots=True)
class PersonRows:
    """The rows of a person, each after the row it refers to, and the rows that only name it.

    `found` has the keys of the person's rows. `is_of_another` tells whether a row that was read on
    the way belongs to another person.
    """

    session: Session
    lock: bool
    own: list[StoredRow] = field(default_factory=list)
    foreign: dict[Key, ForeignRow] = field(default_factory=dict)
    hidden_tables: set[str] = field(default_factory=set)
    found: set[Key] = field(default_factory=set)
    is_of_another: dict[Key, bool] = field(default_factory=dict)

    def referring(self, parent_name: str, parents: Sequence[StoredRow]) -> Iterator[StoredRow]:
        """Yield the person's rows that refer to these of one table; keep those of others apart."""
        for table in references_to(self.session, parent_name):
            if table.is_hidden:
                self.hidden_tables.add(table.table_name)
                continue
            for reference in table.references:
                rows = rows_referring(self.session, table, [reference], parents, lock=self.lock)
                others = self._keys_of_others(parent_name, table.root_name, reference, rows)
                for row in rows:
                    if row.key in others:
                        foreign = self.foreign.setdefault(row.key, ForeignRow(row))
                        foreign.references.append((parent_name, reference))
                    elif row.key not in self.found:
                        self.found.add(row.key)
                        yield row

    def _keys_of_others(
        self, parent_name: str, root_name: str, reference: Reference, rows: Sequence[StoredRow]
    ) -> set[Key]:
        """Return the keys of those rows of one table that belong to another or to no person."""
        is_account = parent_name == USERS
        if is_account and root_name == MENTORADOS:
            return set()  # the account's own profile
        # Accounts and profiles are persons themselves. The program's own tables name an account
        # that did something.
        if root_name in PERSONS or (is_account and root_name in User.metadata.tables):
            return {row.key for row in rows}
        if parent_name == MENTORADOS or (not is_account and not reference.is_optional):
            return set()
        others: set[Key] = set()
        for leaf, stored in by_leaf(rows).items():
            places = self._places_of_others(leaf, [row.place for row in stored])
            others.update(row.key for row in stored if row.place in places)
        return others

    def _places_of_others(self, table_name: str, places: Sequence[str]) -> set[str]:
        """Return which rows belong to another, by a mandatory reference or one to a profile."""
        of_others: set[str] = set()
        unknown: defaultdict[str, defaultdict[Key, set[str]]] = defaultdict(
            lambda: defaultdict(set)
        )
        for place, key, leaf, is_person in self._needed_rows(table_name, places):
            if is_person or self.is_of_another.get(key):
                of_others.add(place)
            elif key not in self.is_of_another:
                unknown[leaf][key].add(place)
        for leaf, referred in unknown.items():
            self.is_of_another.update(dict.fromkeys(referred, False))  # also ends a cycle
            found = self._places_of_others(leaf, [place for _, place in referred])
            for key in (each for each in referred if each[1] in found):
                self.is_of_another[key] = True
                of_others |= referred[key]
        return of_others

    def _needed_rows(
        self, table_name: str, places: Sequence[str]
    ) -> Iterator[tuple[str, Key, str, bool]]:
        """Yield the rows that these rows need, without the person's own.

        Each is the place of the row, the key and table of the row that it needs, and whether that
        is an account or profile.
        """
        for target_name, reference in keys_of(self.session, table_name):
            if reference.is_optional and target_name != MENTORADOS:
                continue
            query = f"""
                SELECT r.ctid::text AS place, t.tableoid AS table_id, t.ctid::text AS target_place,
                       t.tableoid::regclass::text AS leaf
                  FROM ONLY {escaped(table_name)} r, {escaped(target_name)} t
                 WHERE r.ctid = ANY (CAST(:places AS tid[])) AND {reference.matches("r", "t")}
            """  # noqa: S608 - names of the catalogue, quoted by it
            for row in self.session.execute(text(query), {"places": list(places)}):
                key = (row.table_id, row.target_place)
                if key not in self.found:
                    yield row.place, key, row.leaf, target_name in PERSONS


def find_rows(
    session: Session, user_id: int | None, profile_ids: Collection[int], *, lock: bool = False
) -> PersonRows:
    """Return all rows of the account and the profiles with these ids; `lock` locks each row."""
    rows = PersonRows(session, lock)
    user_ids = [] if user_id is None else [user_id]
    level = rows_by_id(session, USERS, user_ids, lock=lock)
    level += rows_by_id(session, MENTORADOS, profile_ids, lock=lock)
    while level:
        rows.own += level
        rows.found.update(row.key for row in level)
        groups = by_leaf(level).items()
        level = [row for leaf, parents in groups for row in rows.referring(leaf, parents)]
    return rows


class NamingRowShape(TypedDict):
    """A row of others that names the person: its table, its id and the referring columns."""

    table: str
    row: dict[str, Any]


class PersonExport(TypedDict):
    """Everything that is kept about a person: the rows of each table, under their columns."""

    exported_at: Timestamp
    user_id: int | None
    clerk_id: str | None
    mentorado_ids: list[int]
    tables: dict[str, list[dict[str, Any]]]
    named_in: list[NamingRowShape]
    hidden_tables: list[str]


def export_person(session: Session, person: Person, *, now: datetime) -> PersonExport:
    """Return everything that is kept about the person, as JSON values by table.

    Of rows that belong to others and only name the person, the ids are listed. `hidden_tables` are
    tables that this program may not read.
    """
    rows = find_rows(session, person.user_id, person.profile_ids)
    tables: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.own:
        tables[row.table.root_name].append(row.content)
    for table, condition in RECORDS.items():
        query = f"SELECT to_jsonb(r) FROM {table} r WHERE {condition} ORDER BY id"  # noqa: S608 - constants
        tables[table] = list(session.scalars(text(query), person.parameters))
    return {
        "exported_at": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "user_id": person.user_id,
        "clerk_id": person.clerk_id,
        "mentorado_ids": list(person.profile_ids),
        "tables": {name: contents for name, contents in sorted(tables.items()) if contents},
        "named_in": [_named_in(foreign) for foreign in rows.foreign.values()],
        "hidden_tables": sorted(rows.hidden_tables),
    }


def _named_in(foreign: ForeignRow) -> NamingRowShape:
    names = {name.strip('"') for _, key in foreign.references for name in key.columns}
    return {
        "table": foreign.row.table.root_name,
        "row": {k: v for k, v in foreign.row.content.items() if k in {"id", *names}},
    }
