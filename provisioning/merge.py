"""Merge two profiles into one: months, feedback and all other rows that refer to them move.

1. Lock the owners, then both profiles.
2. Move the rows of the removed profile to the kept one, in all tables that the catalogue lists.
   Where a unique index excludes a row of each, one of the two goes to the archive.
3. Archive and delete the removed profile. No row is deleted without a copy in the archive.
4. Give the kept profile the owner, and the values that it lacks.
5. Add the audit event.
"""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.errors import UniqueViolation
from sqlalchemy import Row, insert, select, text
from sqlalchemy.orm import Session

from core.database import rolled_back
from models import ArchivedRow, Mentorado, User
from provisioning.admin_actions import (
    invalidate_claimants,
    load_profile_for_update,
    load_user_for_update,
    record_action,
)
from provisioning.audit import Source
from provisioning.errors import Conflict, ConflictError, StaleDecisionError
from provisioning.references import (
    MENTORADOS,
    REFUSING_ERRORS,
    ROW,
    ReferringTable,
    StoredRow,
    columns_of,
    escaped,
    execute,
    is_referenced,
    references_to,
    references_to_mentorados,
    rows_by_id,
    select_rows,
)

FILLED_COLUMNS = ("email", "foto_url")  # copied to the kept profile where it has no value
# The table of a unique index, which may be a single partition, its columns and its condition; no
# row for an index on expressions.
UNIQUE_INDEX = text("""
    SELECT i.indrelid::regclass::text AS table_name,
           coalesce(pg_partition_root(i.indrelid), i.indrelid)::regclass::text AS root_name,
           c.relname AS name,
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
BOTH = "mentorados removed, mentorados kept WHERE removed.id = :from_id AND kept.id = :into_id"
# Rows of these tables are users and profiles themselves and are never archived as a conflict.
NEVER_ARCHIVED = (MENTORADOS, "users")
# Below version 15, an UPDATE that moves a referenced row to another partition fires ON DELETE.
MOVES_KEEP_REFERENCES = (15,)


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
class MergeResult:
    """The kept profile, the moved rows by table, the conflicts, and the affected Clerk ids."""

    mentorado: Mentorado
    moved: dict[str, int]
    conflicts: list[MergeConflict]
    clerk_ids: list[str]


def merge(session: Session, spec: MergeSpec, *, source: Source, now: datetime) -> MergeResult:
    """Move all rows from one profile to another and delete the first.

    The kept profile gets the other's owner, address and photo where it has none. Of two rows that a
    unique index excludes, `spec.prefer` chooses; the other row and the deleted profile go to the
    archive. Raises UnknownMentoradoError, and ConflictError for two profiles with two owners or
    where data could be lost; then nothing is written.
    """
    removed, kept = _lock_both(session, spec)
    owner_id = removed.user_id or kept.user_id
    columns = [name for name in FILLED_COLUMNS if getattr(kept, name) is None]
    filled = {name: getattr(removed, name) for name in columns}
    result = MergeResult(kept, moved={}, conflicts=[], clerk_ids=[])
    session.execute(CHECK_AT_EACH_ROW)
    for table in references_to_mentorados(session):
        if count := RowMover(session, table, spec, result.conflicts).move_all():
            result.moved[table.table_name] = count
    _archive_and_delete(session, removed, spec)
    for name, value in filled.items():
        setattr(kept, name, value)
    kept.user_id, kept.edited_at, kept.updated_at = owner_id, now, now
    session.flush()  # writes the new owner before the statements below
    owner = session.get_one(User, owner_id) if owner_id else None
    details = {"merged_mentorado_id": spec.from_id, "moved": result.moved}
    archived = len(result.conflicts)
    record_action(session, source, "merge", user=owner, profile=kept, **details, archived=archived)
    result.clerk_ids.extend([owner.clerk_id] if owner else invalidate_claimants(session, kept))
    return result


def preview(session: Session, spec: MergeSpec, *, source: Source, now: datetime) -> MergeResult:
    """Merge in a savepoint, roll it back, and return the result."""
    with rolled_back(session):
        result = merge(session, spec, source=source, now=now)
        session.expunge(result.mentorado)  # the rollback would expire its values
    return result


def _lock_both(session: Session, spec: MergeSpec) -> tuple[Mentorado, Mentorado]:
    """Lock the owners by id, then the profiles by id; return the removed and the kept profile."""
    if spec.from_id == spec.into_id:
        raise ConflictError(Conflict.SAME_PROFILE)
    ids = sorted((spec.from_id, spec.into_id))
    owners = select(Mentorado.user_id).where(Mentorado.id.in_(ids), Mentorado.user_id.is_not(None))
    owner_ids = sorted(filter(None, session.scalars(owners)))
    for user_id in owner_ids:
        load_user_for_update(session, user_id)
    profiles = {each: load_profile_for_update(session, each) for each in ids}
    if sorted(filter(None, (p.user_id for p in profiles.values()))) != owner_ids:
        raise StaleDecisionError("a profile of the merge has just changed its owner")
    if len(owner_ids) > 1:
        raise ConflictError(Conflict.TWO_OWNERS)
    return profiles[spec.from_id], profiles[spec.into_id]


def _archive_and_delete(session: Session, profile: Mentorado, spec: MergeSpec) -> None:
    if is_referenced(session, profile.id):
        raise ConflictError(Conflict.STILL_REFERENCED)
    [row] = rows_by_id(session, MENTORADOS, [profile.id])
    archive(session, MENTORADOS, row.content, spec)
    session.delete(profile)
    session.flush()  # `user_id` is unique: it must be free before the kept profile gets it


@dataclass(frozen=True, slots=True)
class RowMover:
    """Moves the rows of one table from a profile to another; adds to `conflicts`."""

    session: Session
    table: ReferringTable
    spec: MergeSpec
    conflicts: list[MergeConflict]

    def move_all(self) -> int:
        """Move all rows and return how many; raises ConflictError where one cannot be moved."""
        if self.table.is_hidden:
            raise ConflictError(Conflict.STILL_REFERENCED, self.table.table_name)
        return sum(self._move(row) for row in self._rows())

    def _rows(self) -> list[StoredRow]:
        """Lock and return the rows that refer to the removed profile, apart from its own."""
        itself = "AND r.ctid <> removed.ctid" if self.table.table_name == MENTORADOS else ""
        query = f"""
            SELECT {columns_of("r")} FROM {self.table.rows} r, {BOTH}
               AND {self.table.refers("r", "removed")} {itself}
             ORDER BY r.tableoid, r.ctid FOR UPDATE OF r
        """  # noqa: S608 - names of the catalogue, quoted by it; here and below
        return select_rows(self.session, self.table, query, self.spec.ids)

    def _move(self, row: StoredRow) -> bool:
        """Move one row after archiving each conflicting one; False where the row itself loses."""
        while (index := self._try_move(row)) is not None:
            other = self._conflicting_row(row, index)
            loser, winner = (row, other) if self.spec.prefer is Prefer.INTO else (other, row)
            self._archive(loser)
            conflict = MergeConflict(self.table.table_name, winner.content, loser.content)
            self.conflicts.append(conflict)
            if loser is row:
                return False
        return True

    def _try_move(self, row: StoredRow) -> Row[Any] | None:
        """Move the row; return the unique index that prevents it, None after a move."""
        version = self.session.connection().dialect.server_version_info or ()
        if self.table.is_partitioned and version < MOVES_KEEP_REFERENCES:
            self._refuse_if_held(row)
        changes = ", ".join(f"{name} = {value}" for name, value in self._new_values().items())
        condition = f"{ROW}{self._targets_exist()}"
        update = f"UPDATE {self.table.root} r SET {changes} FROM {BOTH} AND {condition}"  # noqa: S608
        try:
            with self.session.begin_nested():
                updated = execute(self.session, update, {**self.spec.ids, **row.address})
        except REFUSING_ERRORS as err:
            if isinstance(err.orig, UniqueViolation):
                return self._unique_index(err.orig.diag.schema_name, err.orig.diag.constraint_name)
            raise ConflictError(Conflict.UNRESOLVABLE, row.leaf) from err
        if updated.rowcount != 1:  # a trigger or a rule of another program prevented the update
            raise ConflictError(Conflict.UNRESOLVABLE, row.leaf)
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
        others = (r for r in self.table.references if r.targets != ["id"])
        return "".join(
            f" AND CASE WHEN {r.matches('r', 'removed')}"
            f" THEN num_nulls({', '.join(f'kept.{escaped(t)}' for t in r.targets)}) = 0"
            f" ELSE true END"
            for r in others
        )

    def _unique_index(self, schema: str | None, name: str | None) -> Row[Any]:
        found = self.session.execute(UNIQUE_INDEX, {"schema": schema, "index": name}).one_or_none()
        if found is None or found.root_name != self.table.root_name:
            raise ConflictError(Conflict.UNRESOLVABLE, name or "")
        return found

    def _conflicting_row(self, row: StoredRow, index: Row[Any]) -> StoredRow:
        """Return the row of either profile that the index excludes beside the moved row."""
        values = self._new_values()
        same = " AND ".join(
            f"other.{column} IS NOT DISTINCT FROM {values.get(column, f'r.{column}')}"
            for column in map(escaped, index.columns)
        )
        query = f"""
            SELECT {columns_of("other")}
              FROM ONLY {escaped(index.table_name)} other, {self.table.root} r, {BOTH} AND {ROW}
               AND {same} AND (other.tableoid, other.ctid) <> (r.tableoid, r.ctid)
               AND ({self.table.refers("other", "removed")} OR {self.table.refers("other", "kept")})
               AND EXISTS (SELECT 1 FROM (SELECT other.*) AS candidate
                            WHERE {escaped(index.condition)})
        """  # noqa: S608
        parameters = {**self.spec.ids, **row.address}
        rows = select_rows(self.session, self.table, query, parameters)
        if len(rows) != 1:
            raise ConflictError(Conflict.UNRESOLVABLE, index.name)
        return rows[0]

    def _archive(self, row: StoredRow) -> None:
        """Move a row to the archive; raises ConflictError where another row refers to it."""
        if self.table.root_name in NEVER_ARCHIVED:
            raise ConflictError(Conflict.UNRESOLVABLE, row.leaf)
        self._refuse_if_held(row)
        delete = f"DELETE FROM {self.table.root} r WHERE {ROW} RETURNING to_jsonb(r)"  # noqa: S608
        deleted = execute(self.session, delete, row.address).scalar_one_or_none()
        if deleted is None:
            raise ConflictError(Conflict.UNRESOLVABLE, row.leaf)
        archive(self.session, self.table.table_name, deleted, self.spec)

    def _refuse_if_held(self, row: StoredRow) -> None:
        """Raise ConflictError where a row of any table refers to this one."""
        for child in references_to(self.session, row.leaf):
            query = f"""
                SELECT EXISTS (
                    SELECT 1 FROM {child.rows} c, {self.table.root} r
                     WHERE {ROW} AND {child.refers("c", "r")}
                       AND (c.tableoid, c.ctid) <> (r.tableoid, r.ctid))
            """  # noqa: S608
            if child.is_hidden or execute(self.session, query, row.address).scalar_one():
                raise ConflictError(Conflict.ROW_STILL_REFERENCED, child.table_name)


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
