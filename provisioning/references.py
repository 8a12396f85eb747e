"""Find the tables and rows that refer to a row, from the catalogue; also those of other programs.

A foreign key may have several columns, point at another column than `id`, or exist on one partition
only. It is not enforced for tables that inherit from its table, but their rows refer to the profile
too. Rows are addressed by `tableoid` and `ctid`: a `ctid` alone is not unique among partitions.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.exc import DataError, IntegrityError, InternalError, ProgrammingError
from sqlalchemy.orm import Session

MENTORADOS = "mentorados"
# Of the row r: it has the address of a `StoredRow`.
ROW = "r.tableoid = CAST(:table_id AS oid) AND r.ctid = CAST(:place AS tid)"
# Errors by which constraints and triggers of other programs refuse a change.
REFUSING_ERRORS = (IntegrityError, InternalError, ProgrammingError, DataError)

# Whether a foreign key k is optional, its columns, and the columns that it points at.
KEY_COLUMNS = """
           k.confdeltype <> 'c' AND EXISTS (
               SELECT FROM pg_attribute a
                WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) AND NOT a.attnotnull
           ) AS is_optional,
           ARRAY(SELECT quote_ident(a.attname)
                   FROM unnest(k.conkey) WITH ORDINALITY AS own (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = own.attnum
                  ORDER BY own.place) AS columns,
           ARRAY(SELECT quote_ident(a.attname)
                   FROM unnest(k.confkey) WITH ORDINALITY AS their (attnum, place)
                   JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = their.attnum
                  ORDER BY their.place) AS targets
"""
# A partition carries a copy of its parent's key (conparentid); rows are reached through the parent.
# A key that points at a partitioned table covers the rows of its partitions (their ancestors).
REFERENCES = text(f"""
    WITH RECURSIVE targets AS (
        SELECT to_regclass(:target)::oid AS oid
         UNION SELECT relid FROM pg_partition_ancestors(to_regclass(:target))
    ), foreign_keys AS (
        SELECT c.oid, c.conrelid, c.conkey, c.confrelid, c.confkey, c.confdeltype
          FROM pg_constraint c JOIN targets t ON t.oid = c.confrelid
         WHERE c.contype = 'f' AND c.conparentid = 0
    ), referring (key, member) AS (
        SELECT oid, conrelid FROM foreign_keys
         UNION
        SELECT r.key, i.inhrelid
          FROM referring r
          JOIN pg_inherits i ON i.inhparent = r.member
          JOIN pg_class c ON c.oid = i.inhrelid AND NOT c.relispartition
    )
    SELECT DISTINCT t.oid::regclass::text AS table_name,
           coalesce(pg_partition_root(t.oid), t.oid)::regclass::text AS root_name,
           t.relkind = 'p' OR t.relispartition AS is_partitioned,
           row_security_active(t.oid) OR NOT has_schema_privilege(t.relnamespace, 'USAGE')
               OR NOT has_table_privilege(t.oid, 'SELECT') AS is_hidden,
           {KEY_COLUMNS},
           k.confdeltype = 'c' AND k.conrelid = r.member AS is_cascading
      FROM referring r
      JOIN foreign_keys k ON k.oid = r.key
      JOIN pg_class t ON t.oid = r.member
     ORDER BY table_name, columns, targets
""")  # noqa: S608 - a constant; here and below
# The foreign keys of a table, with those of the tables that it is a partition of or inherits from.
KEYS_OF = text(f"""
    WITH RECURSIVE tables AS (
        SELECT to_regclass(:table)::oid AS oid
         UNION SELECT i.inhparent FROM tables t JOIN pg_inherits i ON i.inhrelid = t.oid
    )
    SELECT k.confrelid::regclass::text AS target,
           {KEY_COLUMNS}
      FROM tables t JOIN pg_constraint k ON k.conrelid = t.oid
     WHERE k.contype = 'f'
     ORDER BY k.oid
""")  # noqa: S608
# References among these tables.
MUTUAL_REFERENCES = text("""
    SELECT coalesce(pg_partition_root(conrelid), conrelid)::regclass::text AS child,
           coalesce(pg_partition_root(confrelid), confrelid)::regclass::text AS parent
      FROM pg_constraint
     WHERE contype = 'f' AND conparentid = 0
       AND coalesce(pg_partition_root(confrelid), confrelid)::regclass::text = ANY (:tables)
""")


@dataclass(frozen=True, slots=True)
class Reference:
    """The columns of one foreign key, and the columns they point at; names are quoted for SQL.

    `is_cascading`: the database deletes the row together with the one that it refers to.
    `is_optional`: a row may exist without it, so that it can be set to NULL.
    """

    columns: list[str]
    targets: list[str]
    is_optional: bool
    is_cascading: bool = False

    def matches(self, row: str, target: str) -> str:
        """Return the SQL condition that `row` refers to `target`, both table names of a query."""
        pairs = zip(self.columns, self.targets, strict=True)
        equal = (f"{row}.{escaped(own)} = {target}.{escaped(other)}" for own, other in pairs)
        return f"({' AND '.join(equal)})"


@dataclass(frozen=True, slots=True)
class ReferringTable:
    """A table with at least one reference to a target; names are quoted for SQL.

    Rows of partitions are written through `root_name`, which moves them to the right partition.
    `is_hidden`: row-level security or missing privileges hide rows from this program. Properties
    and methods return SQL for `text()`.
    """

    table_name: str
    root_name: str
    is_partitioned: bool = False
    is_hidden: bool = False
    references: Sequence[Reference] = ()

    @property
    def rows(self) -> str:
        """The table for a FROM clause: with its partitions, without tables that inherit from it."""
        name = escaped(self.table_name)
        return name if self.is_partitioned else f"ONLY {name}"

    @property
    def root(self) -> str:
        """The table that rows are updated in and deleted from."""
        return escaped(self.root_name) if self.is_partitioned else self.rows

    def refers(self, row: str, target: str) -> str:
        """Return the SQL condition that `row` refers to `target` by any of the references."""
        return "(" + " OR ".join(r.matches(row, target) for r in self.references) + ")"


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row with its content, and the table through which it is written.

    Its address is the table or partition that stores it (`table_id` is its `tableoid`, `leaf` its
    name) and its place there (`ctid`).
    """

    table: ReferringTable
    table_id: int
    leaf: str
    place: str
    content: dict[str, Any]

    @property
    def key(self) -> tuple[int, str]:
        """The address as a key of dictionaries."""
        return self.table_id, self.place

    @property
    def address(self) -> dict[str, Any]:
        """The parameters of `ROW`."""
        return {"table_id": self.table_id, "place": self.place}


def escaped(name: str) -> str:
    """Return a name for `text()`, where a colon would start a parameter."""
    return name.replace(":", r"\:")


def columns_of(row: str) -> str:
    """Return the select list for the fields of a `StoredRow`."""
    return (
        f"{row}.tableoid AS table_id, {row}.tableoid::regclass::text AS leaf,"
        f" {row}.ctid::text AS place, to_jsonb({row}) AS content"
    )


def select_rows(
    session: Session, table: ReferringTable, query: str, parameters: Mapping[str, Any]
) -> list[StoredRow]:
    """Return the rows of a query of this table, whose columns are those of `columns_of`."""
    return [StoredRow(table, **row) for row in execute(session, query, parameters).mappings()]


def rows_by_id(
    session: Session, table_name: str, ids: Collection[int], *, lock: bool = True
) -> list[StoredRow]:
    """Return the rows of users or mentorados with these ids."""
    query = f"""
        SELECT {columns_of("r")} FROM ONLY {table_name} r
         WHERE r.id = ANY (:ids) {"FOR UPDATE" if lock else ""}
    """  # noqa: S608 - names of the catalogue, quoted by it; here and below
    return select_rows(session, ReferringTable(table_name, table_name), query, {"ids": list(ids)})


def rows_referring(
    session: Session,
    table: ReferringTable,
    references: Iterable[Reference],
    parents: Sequence[StoredRow],
    *,
    lock: bool = True,
) -> list[StoredRow]:
    """Return the rows that refer by any of these references to the parents, which have one leaf."""
    condition = " OR ".join(reference.matches("r", "p") for reference in references)
    query = f"""
        SELECT {columns_of("r")} FROM {table.rows} r, ONLY {escaped(parents[0].leaf)} p
         WHERE p.ctid = ANY (CAST(:places AS tid[])) AND ({condition})
         ORDER BY r.tableoid, r.ctid {"FOR UPDATE OF r" if lock else ""}
    """  # noqa: S608
    places = [parent.place for parent in parents]
    return select_rows(session, table, query, {"places": places})


def by_leaf(rows: Iterable[StoredRow]) -> dict[str, list[StoredRow]]:
    """Return rows by the name of the table or partition that stores them."""
    groups: defaultdict[str, list[StoredRow]] = defaultdict(list)
    for row in rows:
        groups[row.leaf].append(row)
    return groups


def execute(session: Session, statement: str, parameters: Mapping[str, Any]) -> CursorResult[Any]:
    """Execute SQL whose names come from the catalogue, quoted by it."""
    return cast("CursorResult[Any]", session.execute(text(statement), parameters))


def references_to(session: Session, table_name: str) -> list[ReferringTable]:
    """Return every table with a foreign key to this one (a quoted name), in a stable order."""
    rows = session.execute(REFERENCES, {"target": table_name}).all()
    tables = []
    for _, group in groupby(rows, attrgetter("table_name")):
        keys = list(group)
        first = keys[0]
        references = [Reference(k.columns, k.targets, k.is_optional, k.is_cascading) for k in keys]
        tables.append(
            ReferringTable(
                first.table_name, first.root_name, first.is_partitioned, first.is_hidden, references
            )
        )
    return tables


def keys_of(session: Session, table_name: str) -> list[tuple[str, Reference]]:
    """Return the foreign keys of a table (a quoted name), each with the table that it points at."""
    rows = session.execute(KEYS_OF, {"table": table_name})
    return [(row.target, Reference(row.columns, row.targets, row.is_optional)) for row in rows]


def references_to_mentorados(session: Session) -> list[ReferringTable]:
    """Return every table that refers to mentorados, referenced tables before referring ones."""
    tables = references_to(session, MENTORADOS)
    roots = [table.root_name for table in tables]
    edges = session.execute(MUTUAL_REFERENCES, {"tables": roots}).all()
    ordered: list[ReferringTable] = []
    while tables:
        remaining = {table.root_name for table in tables}
        blocked = {child for child, parent in edges if parent in remaining and child != parent}
        free = [table for table in tables if table.root_name not in blocked] or tables
        ordered += free
        tables = [table for table in tables if table not in free]
    return ordered


def count_references(session: Session, mentorado_id: int) -> dict[str, int]:
    """Return by table the number of rows that refer to this profile."""
    tables = [table for table in references_to(session, MENTORADOS) if not table.is_hidden]
    counts = ", ".join(
        f"(SELECT count(*) FROM {table.rows} r, mentorados m WHERE m.id = :id AND {_refers(table)})"  # noqa: S608
        for table in tables
    )
    row = session.execute(text(f"SELECT {counts}"), {"id": mentorado_id}).one()
    return dict(zip((table.table_name for table in tables), row, strict=True))


def referenced_among(session: Session, mentorado_ids: Collection[int]) -> set[int]:
    """Return which of the profiles any row refers to; all of them where rows are hidden."""
    tables = references_to(session, MENTORADOS)
    if any(table.is_hidden for table in tables):
        return set(mentorado_ids)
    found = " OR ".join(
        f"EXISTS (SELECT 1 FROM {table.rows} r WHERE {_refers(table)})"  # noqa: S608
        for table in tables
    )
    query = f"SELECT m.id FROM mentorados m WHERE m.id = ANY(:ids) AND ({found or 'false'})"  # noqa: S608
    return set(session.scalars(text(query), {"ids": list(mentorado_ids)}))


def is_referenced(session: Session, mentorado_id: int) -> bool:
    """Whether any row of any table refers to this profile; True where rows are hidden."""
    return bool(referenced_among(session, [mentorado_id]))


def _refers(table: ReferringTable) -> str:
    """Return the SQL condition that row r refers to the profile m and is not that profile."""
    another = " AND r.ctid <> m.ctid" if table.table_name == MENTORADOS else ""
    return f"{table.refers('r', 'm')}{another}"
