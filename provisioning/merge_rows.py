"""Moving the rows of one profile to another, in whatever table they are.

Only the database knows all tables that refer to mentorados, and which of their columns are unique.
A row that has a rival at the other profile stays in the archive; none is ever just deleted. Rows
are addressed by table and place (`tableoid`, `ctid`): a place alone is one of each partition.
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

# The table of a unique index, which may be a single partition, its columns and its condition; none
# of an index that is made of expressions.
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
# Unique rules that wait for the commit are checked at each row, so that none is found too late.
AT_ONCE = text("SET CONSTRAINTS ALL IMMEDIATE")
ROW = "r.tableoid = CAST(:table_id AS oid) AND r.ctid = CAST(:place AS tid)"
BOTH = "mentorados gone, mentorados kept WHERE gone.id = :from_id AND kept.id = :into_id"
# Rows of these are users and profiles themselves; none is given up for the sake of another one.
NEVER_ARCHIVED = (MENTORADOS, "users")
# An UPDATE of a referenced partitioned table that changes the partition fires ON DELETE before it.
MOVES_KEEP_REFERENCES = (15,)
REFUSED = (IntegrityError, InternalError, ProgrammingError, DataError)


class Prefer(enum.StrEnum):
    """Which of two rows stays where there is room for one."""

    INTO = "into"  # the row of the profile that is kept
    FROM = "from"  # the row of the profile that goes


@dataclass(frozen=True, slots=True)
class MergeSpec:
    """From which profile to which, what wins on the way, and the request that asked for it."""

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
    """Two rows of which one had to make room; contents by column, as JSON has them."""

    table: str
    kept: dict[str, Any]
    archived: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row with its address: the table or partition it is in, and its place there."""

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
    """What keeps two rows apart: equal columns, among the rows of a table that meet a condition."""

    name: str
    table_name: str
    columns: tuple[str, ...]
    condition: str


@dataclass(frozen=True, slots=True)
class RowMover:
    """Moves the rows of one table from a profile to another."""

    session: Session
    table: ReferringTable
    journey: MergeSpec

    def move_all(self) -> tuple[int, list[MergeConflict]]:
        """Move all rows; returns how many have moved, and which met a rival."""
        if self.table.is_hidden:
            raise ConflictError(Conflict.HELD, self.table.table_name)
        clashes: list[MergeConflict] = []
        moved = sum(self._move(row, clashes) for row in self._rows())
        return moved, clashes

    def _rows(self) -> list[StoredRow]:
        """The rows that refer to the profile that goes, apart from its own."""
        itself = "AND r.ctid <> gone.ctid" if self.table.table_name == MENTORADOS else ""
        query = f"""
            SELECT {columns_of("r")} FROM {self.table.rows} r, {BOTH}
               AND {self.table.refers("r", "gone")} {itself}
             ORDER BY r.tableoid, r.ctid FOR UPDATE OF r
        """  # noqa: S608 - names of the catalogue, quoted by it; here and below
        return self._stored_rows(query, self.journey.ids)

    def _move(self, row: StoredRow, clashes: list[MergeConflict]) -> bool:
        """Move one row, archiving one rival after the other; False where the row itself loses."""
        while (index := self._clashing_index(row)) is not None:
            rival = self._rival(row, index)
            loser, winner = (row, rival) if self.journey.prefer is Prefer.INTO else (rival, row)
            self._archive(loser)
            clashes.append(MergeConflict(self.table.table_name, winner.content, loser.content))
            if loser is row:
                return False
        return True

    def _clashing_index(self, row: StoredRow) -> UniqueIndex | None:
        """Move the row if nothing is in its way; otherwise the unique index that forbids it."""
        self._refuse_unsafe_move(row)
        changes = ", ".join(f"{name} = {value}" for name, value in self._new_values().items())
        update = f"UPDATE {self.table.root} r SET {changes} FROM {BOTH} AND {ROW}{self._possible()}"  # noqa: S608
        try:
            with self.session.begin_nested():
                updated = self._execute(update, {**self.journey.ids, **row.address})
        except REFUSED as err:
            if isinstance(err.orig, UniqueViolation):
                return self._index(err.orig.diag.schema_name, err.orig.diag.constraint_name)
            raise ConflictError(Conflict.UNTOLD_RULE, row.table_name) from err
        if updated.rowcount != 1:  # a trigger or a rule of another program was quietly in the way
            raise ConflictError(Conflict.UNTOLD_RULE, row.table_name)
        return None

    def _new_values(self) -> dict[str, str]:
        """For each column of a reference the SQL value that makes row `r` refer to `kept`.

        A column of several references follows the first that refers to `gone`.
        """
        cases: dict[str, str] = {}
        for reference in self.table.references:
            refers = reference.matches("r", "gone")
            for column, target in zip(reference.columns, reference.targets, strict=True):
                case = f"WHEN {refers} THEN kept.{escaped(target)}"
                cases[column] = f"{cases.get(column, '')} {case}"
        return {
            escaped(column): f"CASE {case} ELSE r.{escaped(column)} END"
            for column, case in cases.items()
        }

    def _possible(self) -> str:
        """The SQL condition that the kept profile has what a reference of row `r` points at."""
        others = (r for r in self.table.references if r.targets != ("id",))
        return "".join(
            f" AND CASE WHEN {r.matches('r', 'gone')}"
            f" THEN num_nulls({', '.join(f'kept.{escaped(t)}' for t in r.targets)}) = 0"
            f" ELSE true END"
            for r in others
        )

    def _index(self, schema: str | None, name: str | None) -> UniqueIndex:
        found = self.session.execute(UNIQUE_INDEX, {"schema": schema, "index": name}).one_or_none()
        if found is None or found.root_name != self.table.root_name:
            raise ConflictError(Conflict.UNTOLD_RULE, name or "")
        return UniqueIndex(str(name), found.table_name, tuple(found.columns), found.condition)

    def _rival(self, row: StoredRow, index: UniqueIndex) -> StoredRow:
        """The row of the kept profile, or another one of this, that is in the place of the row."""
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
               AND ({self.table.refers("other", "gone")} OR {self.table.refers("other", "kept")})
               AND EXISTS (SELECT 1 FROM (SELECT other.*) AS candidate
                            WHERE {escaped(index.condition)})
        """  # noqa: S608
        rivals = self._stored_rows(query, {**self.journey.ids, **row.address})
        if len(rivals) != 1:
            raise ConflictError(Conflict.UNTOLD_RULE, index.name)
        return rivals[0]

    def _archive(self, row: StoredRow) -> None:
        """Move a row into the archive, provided that nothing refers to it."""
        if self.table.root_name in NEVER_ARCHIVED:
            raise ConflictError(Conflict.UNTOLD_RULE, row.table_name)
        self._refuse_if_held(row)
        delete = f"DELETE FROM {self.table.root} r WHERE {ROW} RETURNING to_jsonb(r)"  # noqa: S608
        deleted = self._execute(delete, row.address).scalar_one_or_none()
        if deleted is None:
            raise ConflictError(Conflict.UNTOLD_RULE, row.table_name)
        archive(self.session, self.table.table_name, deleted, self.journey)

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
                raise ConflictError(Conflict.HELD_ROW, child.table_name)

    def _stored_rows(self, query: str, values: dict[str, Any]) -> list[StoredRow]:
        return [StoredRow(**row) for row in self._execute(query, values).mappings()]

    def _execute(self, statement: str, values: dict[str, Any]) -> CursorResult[Any]:
        """Execute SQL whose names come from the database's own catalogue, quoted by it."""
        return cast("CursorResult[Any]", self.session.execute(text(statement), values))


def columns_of(row: str) -> str:
    """What a query selects of a row to make a `StoredRow` of it."""
    return (
        f"{row}.tableoid AS table_id, {row}.tableoid::regclass::text AS table_name,"
        f" {row}.ctid::text AS place, to_jsonb({row}) AS content"
    )


def move_rows(
    session: Session, table: ReferringTable, journey: MergeSpec
) -> tuple[int, list[MergeConflict]]:
    """Move all rows of one table; returns how many have moved, and which met a rival.

    Raises ConflictError where a rival cannot be told, something refers to the row that loses, or
    the database refuses the move.
    """
    return RowMover(session, table, journey).move_all()


def archive(session: Session, table: str, content: dict[str, Any], journey: MergeSpec) -> None:
    """Keep what a row held, and between which profiles it was lost."""
    session.execute(
        insert(ArchivedRow).values(
            reason="merge",
            table_name=table,
            content=content,
            mentorado_id=journey.from_id,
            kept_mentorado_id=journey.into_id,
            request_id=journey.request_id,
        )
    )
