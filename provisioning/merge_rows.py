"""Move the rows of one profile to another, in all tables that refer to mentorados.

The database's catalogue lists these tables and their unique indexes. Where a unique index excludes
a row of each profile, one of the two goes to the archive; no row is deleted without a copy there.
Rows are addressed by `tableoid` and `ctid`: a `ctid` alone is not unique among partitions.
"""

import enum
from dataclasses import dataclass
from typing import Any, cast

from psycopg2.errors import UniqueViolation
from sqlalchemy import CursorResult, insert, text
from sqlalchemy.exc import DataError, IntegrityError, InternalError, ProgrammingError
from sqlalchemy.orm import Session

from models import ArchivedRow
from provisioning.admin_actions import Conflict, ConflictError
from provisioning.references import (
    MENTORADOS,
    ReferringTable,
    escaped,
    references_to,
)

# The table of a unique index, which may be a single partition, its columns and its condition; no
# row for an index on expressions.
UNIQUE_INDEX = text("""
    SELECT i.indrelid::regclass::text AS table_name,
           coalesce(pg_partition_root(i.indrelid), i.indrelid)::regclass::text AS root_name,
           ARRAY(SELECT quote_ident(a.attname)
                   FROM pg_attribute a
                  WHERE a.attrelid = i.indrelid
                    AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS columns,
           coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') AS condition
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = :schema AND c.relname = :index AND 0 <> ALL (i.indkey)
""")
# Checks deferred unique constraints at each row instead of at the commit, which would be too late.
CHECK_AT_EACH_ROW = text("SET CONSTRAINTS ALL IMMEDIATE")
ROW = "r.tableoid = CAST(:table_id AS oid) AND r.ctid = CAST(:place AS tid)"
BOTH = "mentorados removed, mentorados kept WHERE removed.id = :from_id AND kept.id = :into_id"
# Rows of these tables are users and profiles themselves and are never archived as a conflict.
NEVER_ARCHIVED = (MENTORADOS, "users")
# Below version 15, an UPDATE that moves a referenced row to another partition fires ON DELETE.
MOVES_KEEP_REFERENCES = (15,)
REFUSING_ERRORS = (IntegrityError, InternalError, ProgrammingError, DataError)


class Prefer(enum.StrEnum):
    """Which of two conflicting rows is kept."""

    INTO = "into"  # the row of the kept profile
    FROM = "from"  # the row of the removed profile


@dataclass(frozen=True, slots=True)
class MergeSpec:
    """The removed and the kept profile, which rows win conflicts, and the id of the request."""

    from_id: int
    into_id: int
    prefer: Prefer
    request_id: str | None = None

    @property
    def ids(self) -> dict[str, int]:
        """The parameters of `BOTH`."""
        return {"from_id": self.from_id, "into_id": self.into_id}


@dataclass(frozen=True, slots=True)
class MergeConflict:
    """Two rows that a unique index excludes; contents by column, as JSON values."""

    table: str
    kept: dict[str, Any]
    archived: dict[str, Any]


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


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index: its columns must differ among the rows of a table that meet its condition."""

    name: str
    table_name: str
    columns: tuple[str, ...]
    condition: str


@dataclass(frozen=True, slots=True)
class RowMover:
    """Moves the rows of one table from a profile to another."""

    session: Session
    table: ReferringTable
    spec: MergeSpec

    def move_all(self) -> tuple[int, list[MergeConflict]]:
        """Move all rows; return how many were moved, and the conflicts."""
        if self.table.is_hidden:
            raise ConflictError(Conflict.STILL_REFERENCED, self.table.table_name)
        conflicts: list[MergeConflict] = []
        moved = sum(self._move(row, conflicts) for row in self._rows())
        return moved, conflicts

    def _rows(self) -> list[StoredRow]:
        """Lock and return the rows that refer to the removed profile, apart from its own."""
        itself = "AND r.ctid <> removed.ctid" if self.table.table_name == MENTORADOS else ""
        query = f"""
            SELECT {columns_of("r")} FROM {self.table.rows} r, {BOTH}
               AND {self.table.refers("r", "removed")} {itself}
             ORDER BY r.tableoid, r.ctid FOR UPDATE OF r
        """  # noqa: S608 - names of the catalogue, quoted by it; here and below
        return self._stored_rows(query, self.spec.ids)

    def _move(self, row: StoredRow, conflicts: list[MergeConflict]) -> bool:
        """Move one row after archiving each conflicting one; False where the row itself loses."""
        while (index := self._try_move(row)) is not None:
            other = self._conflicting_row(row, index)
            loser, winner = (row, other) if self.spec.prefer is Prefer.INTO else (other, row)
            self._archive(loser)
            conflicts.append(MergeConflict(self.table.table_name, winner.content, loser.content))
            if loser is row:
                return False
        return True

    def _try_move(self, row: StoredRow) -> UniqueIndex | None:
        """Move the row; return the unique index that prevents it, None after a move."""
        self._refuse_unsafe_move(row)
        changes = ", ".join(f"{name} = {value}" for name, value in self._new_values().items())
        condition = f"{ROW}{self._targets_exist()}"
        update = f"UPDATE {self.table.root} r SET {changes} FROM {BOTH} AND {condition}"  # noqa: S608
        try:
            with self.session.begin_nested():
                updated = self._execute(update, {**self.spec.ids, **row.address})
        except REFUSING_ERRORS as err:
            if isinstance(err.orig, UniqueViolation):
                return self._unique_index(err.orig.diag.schema_name, err.orig.diag.constraint_name)
            raise ConflictError(Conflict.UNRESOLVABLE, row.table_name) from err
        if updated.rowcount != 1:  # a trigger or a rule of another program prevented the update
            raise ConflictError(Conflict.UNRESOLVABLE, row.table_name)
        return None

    def _new_values(self) -> dict[str, str]:
        """Return for each column of a reference the SQL value that makes row `r` refer to `kept`.

        A column of several references follows the first that refers to `removed`.
        """
        cases: dict[str, str] = {}
        for reference in self.table.references:
            refers = reference.matches("r", "removed")
            for column, target in zip(reference.columns, reference.targets, strict=True):
                case = f"WHEN {refers} THEN kept.{escaped(target)}"
                cases[column] = f"{cases.get(column, '')} {case}"
        return {
            escaped(column): f"CASE {case} ELSE r.{escaped(column)} END"
            for column, case in cases.items()
        }

    def _targets_exist(self) -> str:
        """Return the SQL condition that the kept profile has values for the references of `r`."""
        others = (r for r in self.table.references if r.targets != ("id",))
        return "".join(
            f" AND CASE WHEN {r.matches('r', 'removed')}"
            f" THEN num_nulls({', '.join(f'kept.{escaped(t)}' for t in r.targets)}) = 0"
            f" ELSE true END"
            for r in others
        )

    def _unique_index(self, schema: str | None, name: str | None) -> UniqueIndex:
        found = self.session.execute(UNIQUE_INDEX, {"schema": schema, "index": name}).one_or_none()
        if found is None or found.root_name != self.table.root_name:
            raise ConflictError(Conflict.UNRESOLVABLE, name or "")
        return UniqueIndex(str(name), found.table_name, tuple(found.columns), found.condition)

    def _conflicting_row(self, row: StoredRow, index: UniqueIndex) -> StoredRow:
        """Return the row of either profile that the index excludes beside the moved row."""
        values = self._new_values()
        columns = [escaped(column) for column in index.columns]
        same = " AND ".join(
            f"other.{column} IS NOT DISTINCT FROM {values.get(column, f'r.{column}')}"
            for column in columns
        )
        query = f"""
            SELECT {columns_of("other")}
              FROM ONLY {escaped(index.table_name)} other, {self.table.root} r, {BOTH} AND {ROW}
               AND {same} AND (other.tableoid, other.ctid) <> (r.tableoid, r.ctid)
               AND ({self.table.refers("other", "removed")} OR {self.table.refers("other", "kept")})
               AND EXISTS (SELECT 1 FROM (SELECT other.*) AS candidate
                            WHERE {escaped(index.condition)})
        """  # noqa: S608
        rows = self._stored_rows(query, {**self.spec.ids, **row.address})
        if len(rows) != 1:
            raise ConflictError(Conflict.UNRESOLVABLE, index.name)
        return rows[0]

    def _archive(self, row: StoredRow) -> None:
        """Move a row to the archive; raises ConflictError where another row refers to it."""
        if self.table.root_name in NEVER_ARCHIVED:
            raise ConflictError(Conflict.UNRESOLVABLE, row.table_name)
        self._refuse_if_held(row)
        delete = f"DELETE FROM {self.table.root} r WHERE {ROW} RETURNING to_jsonb(r)"  # noqa: S608
        deleted = self._execute(delete, row.address).scalar_one_or_none()
        if deleted is None:
            raise ConflictError(Conflict.UNRESOLVABLE, row.table_name)
        archive(self.session, self.table.table_name, deleted, self.spec)

    def _refuse_unsafe_move(self, row: StoredRow) -> None:
        version = self.session.connection().dialect.server_version_info or ()
        if self.table.is_partitioned and version < MOVES_KEEP_REFERENCES:
            self._refuse_if_held(row)

    def _refuse_if_held(self, row: StoredRow) -> None:
        """Raise ConflictError where a row of any table refers to this one."""
        for child in references_to(self.session, row.table_name):
            query = f"""
                SELECT EXISTS (
                    SELECT 1 FROM {child.rows} c, {self.table.root} r
                     WHERE {ROW} AND {child.refers("c", "r")}
                       AND (c.tableoid, c.ctid) <> (r.tableoid, r.ctid))
            """  # noqa: S608
            if child.is_hidden or self._execute(query, row.address).scalar_one():
                raise ConflictError(Conflict.ROW_STILL_REFERENCED, child.table_name)

    def _stored_rows(self, query: str, values: dict[str, Any]) -> list[StoredRow]:
        return [StoredRow(**row) for row in self._execute(query, values).mappings()]

    def _execute(self, statement: str, values: dict[str, Any]) -> CursorResult[Any]:
        """Execute SQL whose names come from the catalogue, quoted by it."""
        return cast("CursorResult[Any]", self.session.execute(text(statement), values))


def columns_of(row: str) -> str:
    """Return the select list for the fields of a `StoredRow`."""
    return (
        f"{row}.tableoid AS table_id, {row}.tableoid::regclass::text AS table_name,"
        f" {row}.ctid::text AS place, to_jsonb({row}) AS content"
    )


def move_rows(
    session: Session, table: ReferringTable, spec: MergeSpec
) -> tuple[int, list[MergeConflict]]:
    """Move all rows of one table; return how many were moved, and the conflicts.

    Raises ConflictError where the conflicting row cannot be determined, another row refers to the
    losing one, or the database refuses the move.
    """
    return RowMover(session, table, spec).move_all()


def archive(session: Session, table: str, content: dict[str, Any], spec: MergeSpec) -> None:
    """Store the content of a row and the ids of the merged profiles in the archive."""
    session.execute(
        insert(ArchivedRow).values(
            reason="merge",
            table_name=table,
            content=content,
            mentorado_id=spec.from_id,
            kept_mentorado_id=spec.into_id,
            request_id=spec.request_id,
        )
    )
