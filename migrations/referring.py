"""Tables whose rows refer to another table's, found in the catalogue, and how SQL reaches them.

A foreign key may have several columns, point at another column than `id`, and stand on a single
partition. Tables that inherit from one that refers to profiles do so too, although the key does not
hold for them. Row `t` is one of such a table; `l0`, `g0`, `k0` are, for its first reference, the
profile that goes as listed in `adoption_losers`, that profile itself, and its keeper.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from alembic import op

PARAMETER = re.compile(r":adoption_(?:name|key)\b|:")

# Foreign keys that point at a table or, where it is partitioned, at a partition of it. A partition
# carries a copy of its parent's key (conparentid). A key does not hold for tables that inherit from
# its own, but their rows refer to the same profiles.
REFERENCES = sa.text("""
    WITH RECURSIVE foreign_keys AS (
        SELECT c.oid, c.conrelid, c.conkey, c.confrelid, c.confkey
          FROM pg_constraint c
         WHERE c.contype = 'f' AND c.conparentid = 0
           AND coalesce(pg_partition_root(c.confrelid), c.confrelid)
               = coalesce(pg_partition_root(to_regclass(:table)), to_regclass(:table))
    ), referring (key, member) AS (
        SELECT oid, conrelid FROM foreign_keys
         UNION
        SELECT r.key, i.inhrelid
          FROM referring r
          JOIN pg_inherits i ON i.inhparent = r.member
          JOIN pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition
    )
    SELECT DISTINCT t.oid AS oid, t.oid::regclass::text AS name,
           coalesce(pg_partition_root(t.oid), t.oid)::regclass::text AS root_name,
           t.relkind = 'p' AS has_partitions, t.relispartition AS is_partition,
           pg_has_role(t.relowner, 'USAGE') AS is_ours_to_alter,
           ARRAY(SELECT a.attname::text
                   FROM unnest(k.conkey) WITH ORDINALITY AS own (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = own.attnum
                  ORDER BY own.place) AS columns,
           ARRAY(SELECT a.attname::text
                   FROM unnest(k.confkey) WITH ORDINALITY AS their (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = their.attnum
                  ORDER BY their.place) AS targets
      FROM referring r
      JOIN foreign_keys k ON k.oid = r.key
      JOIN pg_class t ON t.oid = r.member
     ORDER BY name, columns, targets
""")
# Which tables refer to which others.
EDGES = sa.text("""
    SELECT coalesce(pg_partition_root(conrelid), conrelid)::regclass::text AS child,
           coalesce(pg_partition_root(confrelid), confrelid)::regclass::text AS parent
      FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND conrelid <> confrelid
""")
# All columns of a table; of what a row can be given, generated ones make themselves.
COLUMNS = sa.text("""
    SELECT attname::text AS name, attgenerated = '' AS is_plain FROM pg_attribute
     WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped
     ORDER BY attnum
""")
PRIMARY_KEY = sa.text("""
    SELECT array_agg(a.attname::text ORDER BY a.attnum)
      FROM pg_index i
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = CAST(:oid AS oid) AND i.indisprimary
""")


@dataclass(frozen=True, slots=True)
class Reference:
    """The columns of a foreign key, and the columns that they point at."""

    columns: tuple[str, ...]
    targets: tuple[str, ...]

    def matches(self, row: str, target: str) -> str:
        """The condition that `row` refers to `target`, both names of tables in a query."""
        pairs = zip(self.columns, self.targets, strict=True)
        return " AND ".join(
            f"{row}.{quoted(own)} = {target}.{quoted(their)}" for own, their in pairs
        )

    def is_among(self, row: str, profile_id: str) -> str:
        """The condition that `row` refers to one of those profiles of `adoption_losers`."""
        own = ", ".join(f"{row}.{quoted(name)}" for name in self.columns)
        their = ", ".join(f"m.{quoted(name)}" for name in self.targets)
        losers = f"adoption_losers l ON l.{profile_id} = m.id"
        return f"({own}) IN (SELECT {their} FROM mentorados m JOIN {losers})"  # noqa: S608 - names of the catalogue


@dataclass(frozen=True, slots=True)
class Child:
    """A table whose rows refer to profiles; `name` and `root_name` are quoted where needed."""

    oid: int
    name: str
    root_name: str
    has_partitions: bool
    is_partition: bool
    is_ours_to_alter: bool
    references: tuple[Reference, ...]

    @property
    def rows(self) -> str:
        """The table in a FROM clause: with its partitions, without tables that inherit from it."""
        return self.name if self.has_partitions else f"ONLY {self.name}"

    @property
    def root(self) -> str:
        """Through which rows are written, so that they get into the right partition."""
        return self.root_name if self.is_partition else self.rows

    @property
    def columns(self) -> list[str]:
        """All columns that take part in a reference, each once."""
        return list(dict.fromkeys(name for r in self.references for name in r.columns))

    @property
    def losers(self) -> str:
        """Joins that find, for row `t` and each reference, the profile that goes and its keeper."""
        return " ".join(
            f"LEFT JOIN (adoption_losers l{n} JOIN mentorados g{n} ON g{n}.id = l{n}.loser_id"
            f" JOIN mentorados k{n} ON k{n}.id = l{n}.keeper_id) ON {r.matches('t', f'g{n}')}"
            for n, r in enumerate(self.references)
        )

    @property
    def is_concerned(self) -> str:
        """The condition that row `t` refers to a profile that goes, and does not go itself."""
        found = " OR ".join(f"l{n}.loser_id IS NOT NULL" for n in range(len(self.references)))
        is_going = "t.id IN (SELECT loser_id FROM adoption_losers)"
        return f"({found}) AND NOT {is_going}" if self.name == "mentorados" else f"({found})"

    def any_of(self, column: str, among: Iterable[str] = ()) -> str:
        """A column of `adoption_losers` for row `t`, by the first reference to one that goes.

        `among`: only references that have one of these columns count.
        """
        chosen = set(among) or set(self.columns)
        numbers = (n for n, r in enumerate(self.references) if chosen & set(r.columns))
        return f"coalesce({', '.join(f'l{n}.{column}' for n in numbers)})"

    def followed(self, name: str) -> str:
        """The value of a column once row `t` has followed."""
        cases = [
            f"WHEN l{n}.loser_id IS NOT NULL THEN k{n}.{quoted(target)}"
            for n, reference in enumerate(self.references)
            for own, target in zip(reference.columns, reference.targets, strict=True)
            if own == name
        ]
        return f"CASE {' '.join(cases)} ELSE t.{quoted(name)} END" if cases else f"t.{quoted(name)}"

    def left(self, name: str) -> str:
        """The value that a column had before row `t` followed; NULL where it stays."""
        numbers = [n for n, r in enumerate(self.references) if name in r.columns]
        moves = " OR ".join(f"l{n}.loser_id IS NOT NULL" for n in numbers)
        return f"CASE WHEN {moves} THEN t.{quoted(name)} END"


def referring_to_profiles() -> list[Child]:
    """Tables that refer to profiles; those that others of them refer to come before these."""
    children = referring_to("mentorados")
    edges = [tuple(row) for row in op.get_bind().execute(EDGES)]
    ordered: list[Child] = []
    while children:
        waiting = {child.root_name for child in children}
        held = {child for child, parent in edges if parent in waiting and parent != "mentorados"}
        free = [child for child in children if child.root_name not in held] or children
        ordered += free
        children = [child for child in children if child not in free]
    return ordered


def referring_to(table: str) -> list[Child]:
    """Tables that refer to a table, with all their foreign keys to it."""
    rows = op.get_bind().execute(REFERENCES, {"table": table}).all()
    children = []
    for _, keys in groupby(rows, attrgetter("oid", "name")):
        first, *others = keys
        references = [Reference(tuple(k.columns), tuple(k.targets)) for k in (first, *others)]
        children.append(
            Child(
                first.oid,
                first.name,
                first.root_name,
                first.has_partitions,
                first.is_partition,
                first.is_ours_to_alter,
                tuple(references),
            )
        )
    return children


def primary_key(child: Child) -> list[str] | None:
    """By which columns a row is found again; None in a table without primary key."""
    key: list[str] | None = op.get_bind().scalar(PRIMARY_KEY, {"oid": child.oid})
    return key


def columns_of(table: str) -> list[sa.Row[Any]]:
    """The columns of a table, each with `name` and whether it is `plain`."""
    return list(op.get_bind().execute(COLUMNS, {"table": table}))


def quoted(name: str) -> str:
    """A name as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as it stands in SQL."""
    return "'" + text.replace("'", "''") + "'"


def run(words: str, **values: object) -> None:
    """Execute a statement whose names may have colons in them, apart from its parameters."""
    op.get_bind().execute(statement(words), values)


def value_of(query: str) -> Any:
    """What a query finds first, treated as by `run`."""
    return op.get_bind().scalar(statement(query))


def statement(words: str) -> sa.TextClause:
    """A statement in which a colon means nothing, but for those of the two parameters."""
    return sa.text(PARAMETER.sub(lambda found: found[0] if found[0] != ":" else r"\:", words))


def listed(names: Iterable[str]) -> str:
    """Names of columns as they stand in SQL."""
    return ", ".join(map(quoted, names))
