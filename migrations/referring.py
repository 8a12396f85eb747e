"""Find tables that refer to another table in the catalogue, and build SQL for their rows.

A foreign key may have several columns, refer to another column than `id`, and belong to a single
partition. Tables that inherit from a referring table refer to profiles too, although the key is not
enforced for them. In the SQL, `t` is a row of such a table. For its first reference, `l0` is the
row of `adoption_removed_profiles`, `g0` the removed profile, and `k0` the kept one.
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

# Foreign keys to a table or, where it is partitioned, to a partition of it. A partition has a copy
# of its parent's key (conparentid). A key is not enforced for tables that inherit from its table,
# but their rows refer to the same profiles.
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
# All columns of a table; generated ones (not `is_plain`) cannot be written.
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
    """The columns of a foreign key, and the columns that they refer to."""

    columns: tuple[str, ...]
    targets: tuple[str, ...]

    def matches(self, row: str, target: str) -> str:
        """Return the condition that `row` refers to `target`, both aliases in a query."""
        pairs = zip(self.columns, self.targets, strict=True)
        return " AND ".join(
            f"{row}.{quoted(own)} = {target}.{quoted(their)}" for own, their in pairs
        )

    def is_among(self, row: str, profile_id: str) -> str:
        """Return the condition that `row` refers to a profile in a column of the removed ones."""
        own = ", ".join(f"{row}.{quoted(name)}" for name in self.columns)
        their = ", ".join(f"m.{quoted(name)}" for name in self.targets)
        removed = f"adoption_removed_profiles l ON l.{profile_id} = m.id"
        return f"({own}) IN (SELECT {their} FROM mentorados m JOIN {removed})"  # noqa: S608 - names of the catalogue


@dataclass(frozen=True, slots=True)
class ReferringTable:
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
        """The table for a FROM clause: with partitions, without inheriting tables."""
        return self.name if self.has_partitions else f"ONLY {self.name}"

    @property
    def root(self) -> str:
        """The table for writes, so that rows get into the right partition."""
        return self.root_name if self.is_partition else self.rows

    @property
    def columns(self) -> list[str]:
        """All columns of the references, without duplicates."""
        return list(dict.fromkeys(name for r in self.references for name in r.columns))

    @property
    def removed_joins(self) -> str:
        """The joins of row `t` with the removed and the kept profile of each reference."""
        return " ".join(
            f"LEFT JOIN (adoption_removed_profiles l{n}"
            f" JOIN mentorados g{n} ON g{n}.id = l{n}.removed_id"
            f" JOIN mentorados k{n} ON k{n}.id = l{n}.kept_id) ON {r.matches('t', f'g{n}')}"
            for n, r in enumerate(self.references)
        )

    @property
    def refers_to_removed(self) -> str:
        """The condition that row `t` refers to a removed profile and is not one itself."""
        found = " OR ".join(f"l{n}.removed_id IS NOT NULL" for n in range(len(self.references)))
        is_removed = "t.id IN (SELECT removed_id FROM adoption_removed_profiles)"
        return f"({found}) AND NOT {is_removed}" if self.name == "mentorados" else f"({found})"

    def removed_value(self, column: str, among: Iterable[str] = ()) -> str:
        """Return a column of `adoption_removed_profiles` for row `t`, by its first reference.

        `among`: only references with one of these columns count.
        """
        chosen = set(among) or set(self.columns)
        numbers = (n for n, r in enumerate(self.references) if chosen & set(r.columns))
        return f"coalesce({', '.join(f'l{n}.{column}' for n in numbers)})"

    def moved_value(self, name: str) -> str:
        """Return the value of a column after the move of row `t` to the kept profile."""
        cases = [
            f"WHEN l{n}.removed_id IS NOT NULL THEN k{n}.{quoted(target)}"
            for n, reference in enumerate(self.references)
            for own, target in zip(reference.columns, reference.targets, strict=True)
            if own == name
        ]
        return f"CASE {' '.join(cases)} ELSE t.{quoted(name)} END" if cases else f"t.{quoted(name)}"

    def former_value(self, name: str) -> str:
        """Return the value of a column before the move of row `t`; NULL where it stays."""
        numbers = [n for n, r in enumerate(self.references) if name in r.columns]
        moves = " OR ".join(f"l{n}.removed_id IS NOT NULL" for n in numbers)
        return f"CASE WHEN {moves} THEN t.{quoted(name)} END"


def referring_to_profiles() -> list[ReferringTable]:
    """Return tables that refer to profiles; each before the tables that refer to it."""
    children = referring_to("mentorados")
    edges = [tuple(row) for row in op.get_bind().execute(EDGES)]
    ordered: list[ReferringTable] = []
    while children:
        remaining = {child.root_name for child in children}
        blocked = {
            child for child, parent in edges if parent in remaining and parent != "mentorados"
        }
        free = [child for child in children if child.root_name not in blocked] or children
        ordered += free
        children = [child for child in children if child not in free]
    return ordered


def referring_to(table: str) -> list[ReferringTable]:
    """Return tables that refer to a table, with all their foreign keys to it."""
    rows = op.get_bind().execute(REFERENCES, {"table": table}).all()
    children = []
    for _, keys in groupby(rows, attrgetter("oid", "name")):
        first, *others = keys
        references = [Reference(tuple(k.columns), tuple(k.targets)) for k in (first, *others)]
        children.append(
            ReferringTable(
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


def primary_key(child: ReferringTable) -> list[str] | None:
    """Return the primary key columns of a table; None without primary key."""
    key: list[str] | None = op.get_bind().scalar(PRIMARY_KEY, {"oid": child.oid})
    return key


def columns_of(table: str) -> list[sa.Row[Any]]:
    """Return the columns of a table, each with `name` and `is_plain`."""
    return list(op.get_bind().execute(COLUMNS, {"table": table}))


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def run(sql: str, **values: object) -> None:
    """Execute a statement; colons in names are escaped, but not those of its parameters."""
    op.get_bind().execute(statement(sql), values)


def fetch_value(query: str) -> Any:
    """Return the first value of a query, with colons escaped as by `run`."""
    return op.get_bind().scalar(statement(query))


def statement(sql: str) -> sa.TextClause:
    """Return a statement in which only the two known parameters are parameters."""
    return sa.text(PARAMETER.sub(lambda found: found[0] if found[0] != ":" else r"\:", sql))


def column_list(names: Iterable[str]) -> str:
    """Return quoted column names as a comma list."""
    return ", ".join(map(quoted, names))
