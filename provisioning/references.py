"""What refers to a mentorado, by the database's own account: also tables we do not know."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

REFERENCES = text("""
    SELECT c.conrelid::regclass::text AS table_name,
           quote_ident(a.attname) AS column_name,
           f.attname AS target_name
      FROM pg_constraint c
      JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
      JOIN pg_attribute f ON f.attrelid = c.confrelid AND f.attnum = c.confkey[1]
     WHERE c.confrelid = to_regclass(:target) AND c.contype = 'f' AND c.conparentid = 0
     ORDER BY 1, 2
""")
MENTORADOS = "mentorados"


@dataclass(frozen=True, slots=True)
class Reference:
    """A column that points at another table's `target_name`; the others are quoted for SQL."""

    table_name: str
    column_name: str
    target_name: str


def references_to(session: Session, table_name: str) -> list[Reference]:
    """Every foreign key that points at the table, whose name is quoted, in a stable order."""
    rows = session.execute(REFERENCES, {"target": table_name})
    return [Reference(row.table_name, row.column_name, row.target_name) for row in rows]


def references_to_mentorados(session: Session) -> list[Reference]:
    """Every foreign key that points at mentorados, in a stable order."""
    return references_to(session, MENTORADOS)


def count_references(session: Session, mentorado_id: int) -> dict[str, int]:
    """How many rows of each table that refers to mentorados belong to this one."""
    references = references_to_mentorados(session)
    counted = ", ".join(
        f"(SELECT count(*) FROM {r.table_name} WHERE {r.column_name} = :id)"  # noqa: S608 - quoted
        for r in references
    )
    row = session.execute(text(f"SELECT {counted}"), {"id": mentorado_id}).one()
    counts: dict[str, int] = {}
    for reference, count in zip(references, row, strict=True):
        counts[reference.table_name] = counts.get(reference.table_name, 0) + count
    return counts


def referenced_among(session: Session, mentorado_ids: Sequence[int]) -> set[int]:
    """Return those of the profiles that any row of any table refers to, in one statement."""
    references = references_to_mentorados(session)
    if not references or not mentorado_ids:
        return set()
    found = " OR ".join(
        f"EXISTS (SELECT 1 FROM {r.table_name} AS r"  # noqa: S608 - quoted
        f" WHERE r.{r.column_name} = m.{_quoted(r.target_name)})"
        for r in references
    )
    these = f"SELECT m.id FROM mentorados AS m WHERE m.id = ANY(:ids) AND ({found})"  # noqa: S608
    return set(session.scalars(text(these), {"ids": list(mentorado_ids)}))


def is_referenced(session: Session, mentorado_id: int) -> bool:
    """Whether any row of any table belongs to this mentorado."""
    found = " OR ".join(
        f"EXISTS (SELECT 1 FROM {r.table_name} WHERE {r.column_name} = :id)"  # noqa: S608 - quoted
        for r in references_to_mentorados(session)
    )
    return bool(session.scalar(text(f"SELECT {found or 'false'}"), {"id": mentorado_id}))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
