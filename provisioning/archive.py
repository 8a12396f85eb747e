"""The archive of deleted profiles and months, which can be restored within thirty days.

Rows that a merge has archived are in the same table and stay there.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, and_, delete, text
from sqlalchemy.orm import Session

from models import ArchivedRow
from provisioning.errors import Conflict, ConflictError
from provisioning.references import escaped

RESTORE_TIME = timedelta(days=30)
PROFILE_DELETED, MONTH_DELETED = "delete", "month_deleted"  # reasons of archived rows

# The columns that can be written, of a table that still exists, also those of other programs.
COLUMNS = text("""
    SELECT to_regclass(:table)::text AS table_name,
           ARRAY(SELECT quote_ident(attname) FROM pg_attribute
                  WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped
                    AND attgenerated = '' AND CAST(:contents AS jsonb) -> 0 ? attname) AS columns
""")


def is_restorable(reason: str, now: datetime) -> ColumnElement[bool]:
    """Return the condition of rows that were archived for this reason, for thirty days."""
    return and_(ArchivedRow.reason == reason, ArchivedRow.at > now - RESTORE_TIME)


def insert_again(
    session: Session, table: str, contents: Sequence[dict[str, Any]], *, skip_existing: bool = False
) -> int:
    """Insert archived rows of one table and return their number.

    Columns that were added since get their defaults. It is one statement, because the rows may
    refer to each other. Raises ConflictError where the table is gone, and what the database raises;
    with `skip_existing`, a row that violates a unique constraint is left out instead.
    """
    values = {"table": table, "contents": json.dumps(contents)}
    found = session.execute(COLUMNS, values).one()
    if found.table_name is None:
        raise ConflictError(Conflict.UNRESOLVABLE, table)
    columns, name = ", ".join(map(escaped, found.columns)), escaped(found.table_name)
    rows = f"jsonb_populate_recordset(CAST(NULL AS {name}), CAST(:contents AS jsonb))"
    statement = f"""
        INSERT INTO {name} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {rows}
        {"ON CONFLICT DO NOTHING" if skip_existing else ""}
    """  # noqa: S608 - names of the catalogue, quoted by it
    return cast(CursorResult[Any], session.execute(text(statement), values)).rowcount


def delete_old(session: Session, now: datetime) -> None:
    """Delete the copies of profiles and months that can no longer be restored."""
    reasons = ArchivedRow.reason.in_([PROFILE_DELETED, MONTH_DELETED])
    session.execute(delete(ArchivedRow).where(reasons, ArchivedRow.at <= now - RESTORE_TIME))
