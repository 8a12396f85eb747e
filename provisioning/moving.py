"""Moving the rows of one profile to another, in whatever table they are.

Only the database knows all tables that refer to mentorados, and which of their columns are unique.
A row that has a rival at the other profile stays in the archive; none is ever just deleted.
"""

import enum
from dataclasses import dataclass
from typing import Any

from psycopg2.errors import UniqueViolation
from sqlalchemy import TextClause, insert, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from models import ArchivedRow
from provisioning.references import Reference, references_to
from provisioning.repairs import Conflict, ConflictError

# The columns of a unique index; none of one that is made of expressions.
KEY_COLUMNS = text("""
    SELECT quote_ident(a.attname)
      FROM pg_index i
      JOIN pg_class c ON c.oid = i.indexrelid
      JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
     WHERE i.indrelid = to_regclass(:table) AND c.relname = :index AND 0 <> ALL (i.indkey)
""")


class Prefer(enum.StrEnum):
    """Which of two rows stays where there is room for one."""

    INTO = "into"  # the row of the profile that is kept
    FROM = "from"  # the row of the profile that goes


@dataclass(frozen=True, slots=True)
class Journey:
    """From which profile to which, what wins on the way, and the request that asked for it."""

    from_id: int
    into_id: int
    prefer: Prefer
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Clash:
    """Two rows of which one had to make room; contents by column, as JSON has them."""

    table: str
    kept: dict[str, Any]
    archived: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A row, by its place in its table."""

    place: str
    content: dict[str, Any]


def move_rows(session: Session, reference: Reference, journey: Journey) -> tuple[int, list[Clash]]:
    """Move all rows of one table; returns how many have moved, and which met a rival.

    Raises ConflictError where a rival cannot be told or something refers to the row that loses.
    """
    clashes: list[Clash] = []
    rows = _rows(session, reference, journey.from_id)
    moved = sum(_move(session, reference, journey, row, clashes) for row in rows)
    return moved, clashes


def archive(session: Session, table: str, content: dict[str, Any], journey: Journey) -> None:
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


def _rows(session: Session, reference: Reference, mentorado_id: int) -> list[Row]:
    found = session.execute(
        _sql(
            "SELECT t.ctid::text AS place, to_jsonb(t) AS content FROM {table} t"
            " WHERE {column} = :id ORDER BY t.ctid FOR UPDATE",
            reference,
        ),
        {"id": mentorado_id},
    )
    return [Row(row.place, row.content) for row in found]


def _move(
    session: Session, reference: Reference, journey: Journey, row: Row, clashes: list[Clash]
) -> bool:
    """Move one row, clearing away one rival after the other; False where the row itself loses."""
    while (index := _clashing_index(session, reference, journey, row)) is not None:
        rival = _rival(session, reference, journey, row, index)
        loser, winner = (row, rival) if journey.prefer is Prefer.INTO else (rival, row)
        _give_way(session, reference, journey, loser)
        clashes.append(Clash(reference.table_name, winner.content, loser.content))
        if loser is row:
            return False
    return True


def _clashing_index(
    session: Session, reference: Reference, journey: Journey, row: Row
) -> str | None:
    """Move the row if nothing is in its way; otherwise the unique index that forbids it."""
    update = _sql("UPDATE {table} SET {column} = :into WHERE ctid = CAST(:place AS tid)", reference)
    try:
        with session.begin_nested():
            session.execute(update, {"into": journey.into_id, "place": row.place})
    except IntegrityError as err:
        if not isinstance(err.orig, UniqueViolation):
            raise
        return str(err.orig.diag.constraint_name)
    return None


def _rival(session: Session, reference: Reference, journey: Journey, row: Row, index: str) -> Row:
    names = {"table": reference.table_name, "index": index}
    columns = session.scalars(KEY_COLUMNS, names).all()
    same = [
        f"r.{column} IS NOT DISTINCT FROM s.{column}"
        for column in columns
        if column != reference.column_name
    ]
    query = _sql(
        "SELECT r.ctid::text AS place, to_jsonb(r) AS content FROM {table} r, {table} s"
        " WHERE s.ctid = CAST(:place AS tid) AND {conditions} FOR UPDATE OF r",
        reference,
        conditions=" AND ".join([f"r.{reference.column_name} = :into", *same]),
    )
    found = session.execute(query, {"place": row.place, "into": journey.into_id}).all()
    if not columns or len(found) != 1:
        raise ConflictError(Conflict.UNTOLD_RULE, index)
    return Row(found[0].place, found[0].content)


def _give_way(session: Session, reference: Reference, journey: Journey, row: Row) -> None:
    for child in references_to(session, reference.table_name):
        held = _sql("SELECT EXISTS (SELECT 1 FROM {table} WHERE {column}::text = :value)", child)
        if session.scalar(held, {"value": str(row.content[child.target_name])}):
            raise ConflictError(Conflict.HELD_ROW, child.table_name)
    archive(session, reference.table_name, row.content, journey)
    gone = _sql("DELETE FROM {table} WHERE ctid = CAST(:place AS tid)", reference)
    session.execute(gone, {"place": row.place})


def _sql(template: str, reference: Reference, **parts: str) -> TextClause:
    """The names come from the database's own catalogue, quoted by it."""
    names = {"table": reference.table_name, "column": reference.column_name}
    return text(template.format(**names, **parts))
