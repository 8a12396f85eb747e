"""Find the rows of all tables that belong to a person, by foreign keys; also of other programs.

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
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from models import User
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


@dataclass(frozen=True, slots=True)
class NamingRow:
    """A row that does not belong to the person, but refers to a row that does.

    `references` are the foreign keys by which it does, each with the table that it points at.
    """

    row: StoredRow
    references: list[tuple[str, Reference]] = field(default_factory=list)


@dataclass(slots=True)
class PersonRows:
    """The rows of a person, each after the row it refers to, and the rows that only name it."""

    own: list[StoredRow] = field(default_factory=list)
    naming: dict[Key, NamingRow] = field(default_factory=dict)
    hidden_tables: set[str] = field(default_factory=set)

    def by_table(self) -> dict[str, list[dict[str, Any]]]:
        """Return the contents of the person's rows by table."""
        contents: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.own:
            contents[row.table.root_name].append(row.content)
        return dict(contents)


def find_rows(
    session: Session, user_id: int | None, profile_ids: Collection[int], *, lock: bool = False
) -> PersonRows:
    """Return all rows of the account and the profiles with these ids; `lock` locks each row."""
    search = _Search(session, lock)
    search.run([] if user_id is None else [user_id], profile_ids)
    return search.rows


@dataclass(slots=True)
class _Search:
    """Finds the rows of one person.

    `found` has the keys of the person's rows. `is_of_another` tells whether a row that was read on
    the way belongs to another person.
    """

    session: Session
    lock: bool
    rows: PersonRows = field(default_factory=PersonRows)
    found: set[Key] = field(default_factory=set)
    is_of_another: dict[Key, bool] = field(default_factory=dict)

    def run(self, user_ids: Collection[int], profile_ids: Collection[int]) -> None:
        """Find the rows level by level, so that each table is asked once for each level."""
        level = [
            *rows_by_id(self.session, USERS, user_ids, lock=self.lock),
            *rows_by_id(self.session, MENTORADOS, profile_ids, lock=self.lock),
        ]
        while level:
            self.rows.own += level
            self.found.update(row.key for row in level)
            groups = by_leaf(level).items()
            level = [row for leaf, parents in groups for row in self._rows_of_person(leaf, parents)]

    def _rows_of_person(
        self, parent_name: str, parents: Sequence[StoredRow]
    ) -> Iterator[StoredRow]:
        """Yield the rows that refer to these rows of one table and belong to the person.

        The others are listed as rows that only name it.
        """
        for table in references_to(self.session, parent_name):
            if table.is_hidden:
                self.rows.hidden_tables.add(table.table_name)
                continue
            for reference in table.references:
                rows = rows_referring(self.session, table, [reference], parents, lock=self.lock)
                others = self._keys_of_others(parent_name, reference, rows)
                for row in rows:
                    if row.key in others:
                        naming = self.rows.naming.setdefault(row.key, NamingRow(row))
                        naming.references.append((parent_name, reference))
                    elif row.key not in self.found:
                        self.found.add(row.key)
                        yield row

    def _keys_of_others(
        self, parent_name: str, reference: Reference, rows: Sequence[StoredRow]
    ) -> set[Key]:
        """Return the keys of those rows of one table that belong to another or to no person."""
        root_name = rows[0].table.root_name if rows else MENTORADOS
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
        """Return which rows of a table belong to another person, by their mandatory references.

        A reference to a profile counts in any case.
        """
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
