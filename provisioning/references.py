"""Find the tables and rows that refer to a row, from the catalogue; also those of other programs.

A foreign key may have several columns, point at another column than `id`, or exist on one partition
only. It is not enforced for tables that inherit from its table, but their rows refer to the profile
too. Rows are addressed by `tableoid` and `ctid`: a `ctid` alone is not unique among partitions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, cast

from sqlalchemy import CursorResult, Row, text
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
    SELECT DISTINCT t.oid AS table_id,
           t.oid::regclass::text AS table_name,
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

    columns: tuple[str, ...]
    targets: tuple[str, ...]
    is_cascading: bool = field(default=False, kw_only=True)
    is_optional: bool = field(default=False, kw_only=True)

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
    is_partitioned: bool
    is_hidden: bool
    references: tuple[Reference, ...]

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

    @property
    def is_deleted_along(self) -> bool:
        """Whether the database may delete rows of this table together with others."""
        return any(reference.is_cascading for reference in self.references)

    def is_deleted_with(self, row: str, target: str) -> str:
        """Return the SQL condition that the database deletes `row` together with `target`."""
        cascading = [r.matches(row, target) for r in self.references if r.is_cascading]
        return "(" + " OR ".join(cascading) + ")"


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row with its content and its address: table or partition (`tableoid`) and `ctid`."""

    table_id: int
    table_name: str
    place: str
    content: dict[str, Any]

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
        f"{row}.tableoid AS table_id, {row}.tableoid::regclass::text AS table_name,"
        f" {row}.ctid::text AS place, to_jsonb({row}) AS content"
    )


def select_rows(session: Session, query: str, parameters: Mapping[str, Any]) -> list[StoredRow]:
    """Return the rows of a query whose columns are those of `columns_of`."""
    return [StoredRow(**row) for row in execute(session, query, parameters).mappings()]


def execute(session: Session, statement: str, parameters: Mapping[str, Any]) -> CursorResult[Any]:
    """Execute SQL whose names come from the catalogue, quoted by it."""
    return cast("CursorResult[Any]", session.execute(text(statement), parameters))


def references_to(session: Session, table_name: str) -> list[ReferringTable]:
    """Return every table with a foreign key to this one (a quoted name), in a stable order."""
    rows = session.execute(REFERENCES, {"target": table_name}).all()
    return [_referring_table(list(keys)) for _, keys in groupby(rows, attrgetter("table_name"))]


def keys_of(session: Session, table_name: str) -> list[tuple[str, Reference]]:
    """Return the foreign keys of a table (a quoted name), each with the table that it points at."""
    rows = session.execute(KEYS_OF, {"table": table_name}).all()
    return [
        (row.target, Reference(tuple(row.columns), tuple(row.targets), is_optional=row.is_optional))
        for row in rows
    ]


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
    counts = ", ".join(f"(SELECT count(*) {_rows_of(table)})" for table in tables)
    row = session.execute(text(f"SELECT {counts}"), {"id": mentorado_id}).one()
    return dict(zip((table.table_name for table in tables), row, strict=True))


def referenced_among(session: Session, mentorado_ids: Sequence[int]) -> set[int]:
    """Return the ids of the profiles that any row of any table refers to, in one statement.

    Returns all of them where rows are hidden from this program.
    """
    tables = references_to_mentorados(session)
    if any(table.is_hidden for table in tables):
        return set(mentorado_ids)
    found = " OR ".join(
        f"EXISTS (SELECT 1 FROM {table.rows} r WHERE {_refers(table)})"  # noqa: S608 - quoted
        for table in tables
    )
    query = f"SELECT m.id FROM mentorados m WHERE m.id = ANY(:ids) AND ({found or 'false'})"  # noqa: S608
    return set(session.scalars(text(query), {"ids": list(mentorado_ids)}))


def is_referenced(session: Session, mentorado_id: int) -> bool:
    """Whether any row of any table refers to this profile; True where rows are hidden."""
    tables = references_to_mentorados(session)
    if any(table.is_hidden for table in tables):
        return True
    found = " OR ".join(f"EXISTS (SELECT 1 {_rows_of(table)})" for table in tables)
    return bool(session.scalar(text(f"SELECT {found or 'false'}"), {"id": mentorado_id}))


def _rows_of(table: ReferringTable) -> str:
    """Return SQL for the rows that refer to the profile :id, except for that profile itself."""
    return f"FROM {table.rows} r, mentorados m WHERE m.id = :id AND {_refers(table)}"


def _refers(table: ReferringTable) -> str:
    another = " AND r.ctid <> m.ctid" if table.table_name == MENTORADOS else ""
    return f"{table.refers('r', 'm')}{another}"


def _referring_table(keys: list[Row[*tuple[Any, ...]]]) -> ReferringTable:
    first = keys[0]
    return ReferringTable(
        first.table_name,
        first.root_name,
        first.is_partitioned,
        first.is_hidden,
        tuple(
            Reference(
                tuple(key.columns),
                tuple(key.targets),
                is_cascading=key.is_cascading,
                is_optional=key.is_optional,
            )
            for key in keys
        ),
    )
