"""Search every table of a database, with each row as text."""

from collections.abc import Iterable

from sqlalchemy import Connection, text

TABLES = text("""
    SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema)'
""")


def tables_with(connection: Connection, values: Iterable[str]) -> dict[str, list[str]]:
    """Return for each of the values the tables with a row that contains it; none without one."""
    tables = list(connection.scalars(TABLES))
    found = {value: [t for t in tables if _contains(connection, t, value)] for value in values}
    return {value: names for value, names in found.items() if names}


def _contains(connection: Connection, table: str, value: str) -> bool:
    name = table.replace(":", r"\:")
    query = f"SELECT EXISTS (SELECT FROM ONLY {name} r WHERE strpos(CAST(r AS text), :value) > 0)"
    return bool(connection.scalar(text(query), {"value": value}))
