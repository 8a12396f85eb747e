"""Find the rows of all tables that belong to a person, by foreign keys; also of other programs.

1. Begin with the rows of the account and of the profiles.
2. Add the rows that refer to a found row, then the rows that refer to those, and so on.
3. A row that only names the account, and belongs to another person or to no person, is kept: one of
   this program's own tables (who requested a sweep), or one whose mandatory references lead to
   another account or profile. It is listed apart.
4. So is a row with an optional reference to a found row that belongs to another person.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import User
from provisioning.references import (
    MENTORADOS,
    Reference,
    ReferringTable,
    StoredRow,
    columns_of,
    escaped,
    keys_of,
    references_to,
    select_rows,
)

USERS = "users"
PERSONS = (USERS, MENTORADOS)

Address = tuple[int, str]  # the tableoid and the ctid of a row


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row, and the table through which it is written."""

    row: StoredRow
    table: ReferringTable

    @property
    def address(self) -> Address:
        """Where the row is."""
        return self.row.table_id, self.row.place


@dataclass(frozen=True, slots=True)
class NamingRow:
    """A row that does not belong to the person, but refers to a row that does.

    `references` are the foreign keys by which it does, each with the table that it points at.
    """

    found: FoundRow
    references: list[tuple[str, Reference]] = field(default_factory=list)


@dataclass(slots=True)
class PersonRows:
    """The rows of a person, each after the row it refers to, and the rows that only name it."""

    own: list[FoundRow] = field(default_factory=list)
    naming: dict[Address, NamingRow] = field(default_factory=dict)
    hidden_tables: set[str] = field(default_factory=set)

    def by_table(self) -> dict[str, list[dict[str, Any]]]:
        """Return the contents of the person's rows by table."""
        contents: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for found in self.own:
            contents[found.table.root_name].append(found.row.content)
        return dict(contents)


def find_rows(
    session: Session, user_id: int | None, profile_ids: Collection[int], *, lock: bool = False
) -> PersonRows:
    """Return all rows of the account and the profiles with these ids; `lock` locks each row."""
    search = _Search(session, "FOR UPDATE OF r" if lock else "")
    search.run(user_id, list(profile_ids))
    return search.rows


def group_by_leaf(rows: Iterable[FoundRow]) -> Iterator[tuple[str, list[FoundRow]]]:
    """Yield rows by the table or partition that stores them."""
    groups: defaultdict[str, list[FoundRow]] = defaultdict(list)
    for found in rows:
        groups[found.row.table_name].append(found)
    yield from groups.items()


@dataclass(slots=True)
class _Search:
    """Finds the rows of one person; `lock` is the end of each query.

    `found` has the addresses of the person's rows. `is_of_another` tells whether a row that was
    read on the way belongs to another person.
    """

    session: Session
    lock: str
    rows: PersonRows = field(default_factory=PersonRows)
    found: set[Address] = field(default_factory=set)
    is_of_another: dict[Address, bool] = field(default_factory=dict)

    def run(self, user_id: int | None, profile_ids: list[int]) -> None:
        """Find the rows level by level, so that each table is asked once for each level."""
        user_ids = [] if user_id is None else [user_id]
        level = [*self._first_rows(USERS, user_ids), *self._first_rows(MENTORADOS, profile_ids)]
        while level:
            self.rows.own += level
            self.found.update(found.address for found in level)
            level = [
                row
                for name, parents in group_by_leaf(level)
                for row in self._rows_of_person(name, parents)
            ]

    def _first_rows(self, table_name: str, ids: list[int]) -> list[FoundRow]:
        table = ReferringTable(table_name, table_name, False, False, ())  # noqa: FBT003 - fields
        query = (
            f"SELECT {columns_of('r')} FROM ONLY {table_name} r WHERE r.id = ANY(:ids) {self.lock}"  # noqa: S608 - constants
        )
        return [FoundRow(row, table) for row in select_rows(self.session, query, {"ids": ids})]

    def _rows_of_person(self, parent_name: str, parents: Sequence[FoundRow]) -> Iterator[FoundRow]:
        """Yield the rows that refer to these rows of one table and belong to the person."""
        for table in references_to(self.session, parent_name):
            if table.is_hidden:
                self.rows.hidden_tables.add(table.table_name)
                continue
            for reference in table.references:
                referring = self._referring(table, reference, parent_name, parents)
                yield from self._keep_or_list_apart(parent_name, table, reference, referring)

    def _referring(
        self,
        table: ReferringTable,
        reference: Reference,
        parent_name: str,
        parents: Sequence[FoundRow],
    ) -> list[FoundRow]:
        query = f"""
            SELECT {columns_of("r")}
              FROM {table.rows} r, ONLY {escaped(parent_name)} p
             WHERE p.ctid = ANY (CAST(:places AS tid[])) AND {reference.matches("r", "p")}
             ORDER BY r.tableoid, r.ctid {self.lock}
        """  # noqa: S608 - names of the catalogue, quoted by it; here and below
        places = [parent.row.place for parent in parents]
        rows = select_rows(self.session, query, {"places": places})
        return [FoundRow(row, table) for row in rows]

    def _keep_or_list_apart(
        self,
        parent_name: str,
        table: ReferringTable,
        reference: Reference,
        referring: Sequence[FoundRow],
    ) -> Iterator[FoundRow]:
        """Yield the rows that belong to the person; list the others as rows that only name it."""
        others = self._addresses_of_others(parent_name, table, reference, referring)
        for found in referring:
            if found.address in others:
                naming = self.rows.naming.setdefault(found.address, NamingRow(found))
                naming.references.append((parent_name, reference))
            elif found.address not in self.found:
                self.found.add(found.address)
                yield found

    def _addresses_of_others(
        self,
        parent_name: str,
        table: ReferringTable,
        reference: Reference,
        referring: Sequence[FoundRow],
    ) -> set[Address]:
        """Return the addresses of the rows that belong to another person or to no person."""
        is_account = parent_name == USERS
        if is_account and table.root_name == MENTORADOS:
            return set()  # the account's own profile
        # Accounts and profiles are persons themselves. The program's own tables name an account
        # that did something.
        if table.root_name in PERSONS or (is_account and table.root_name in User.metadata.tables):
            return {found.address for found in referring}
        if parent_name == MENTORADOS or (not is_account and not reference.is_optional):
            return set()
        others: set[Address] = set()
        for name, rows in group_by_leaf(referring):
            places = self._places_of_others(name, [found.row.place for found in rows])
            others.update(found.address for found in rows if found.row.place in places)
        return others

    def _places_of_others(self, table_name: str, places: Sequence[str]) -> set[str]:
        """Return which rows of a table belong to another person, by their mandatory references.

        A reference to a profile counts in any case.
        """
        of_others: set[str] = set()
        unknown: defaultdict[str, defaultdict[Address, set[str]]] = defaultdict(
            lambda: defaultdict(set)
        )
        for place, address, leaf, is_person in self._mandatory_targets(table_name, places):
            if is_person or self.is_of_another.get(address):
                of_others.add(place)
            elif address not in self.is_of_another:
                unknown[leaf][address].add(place)
        for leaf, referred in unknown.items():
            self.is_of_another.update(dict.fromkeys(referred, False))  # also ends a cycle
            found = self._places_of_others(leaf, [place for _, place in referred])
            for address in (each for each in referred if each[1] in found):
                self.is_of_another[address] = True
                of_others |= referred[address]
        return of_others

    def _mandatory_targets(
        self, table_name: str, places: Sequence[str]
    ) -> Iterator[tuple[str, Address, str, bool]]:
        """Yield the rows that these rows need, without the person's own.

        Each is the place of the row, the address and table of the row that it needs, and whether
        that is an account or profile.
        """
        for target_name, reference in keys_of(self.session, table_name):
            if reference.is_optional and target_name != MENTORADOS:
                continue
            for place, address, leaf in self._targets(table_name, places, target_name, reference):
                if address not in self.found:
                    yield place, address, leaf, target_name in PERSONS

    def _targets(
        self, table_name: str, places: Sequence[str], target_name: str, reference: Reference
    ) -> list[tuple[str, Address, str]]:
        """Return for each row its place, and the address and table of the row it refers to."""
        query = f"""
            SELECT r.ctid::text AS place, t.tableoid AS table_id, t.ctid::text AS target_place,
                   t.tableoid::regclass::text AS leaf
              FROM ONLY {escaped(table_name)} r, {escaped(target_name)} t
             WHERE r.ctid = ANY (CAST(:places AS tid[])) AND {reference.matches("r", "t")}
        """  # noqa: S608
        rows = self.session.execute(text(query), {"places": list(places)})
        return [(row.place, (row.table_id, row.target_place), row.leaf) for row in rows]
