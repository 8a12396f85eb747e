"""Search every table of a database, with each row as text."""

from collections import defaultdict
from collections.abc import Iterable

from sqlalchemy import Connection, text

TABLES = text("""
    SELECT c.oid, c.oid::regclass::text
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND n.nspname !~ '^(pg_|information_schema)'
""")
SEARCH = """
SELECT wanted.part, CAST(CAST({oid} AS regclass) AS text)
  FROM unnest(CAST(:values AS text[])) AS wanted (part)
 WHERE EXISTS (SELECT FROM ONLY {table} r WHERE strpos(CAST(r AS text), wanted.part) > 0)
"""


def tables_with(connection: Connection, values: Iterable[str]) -> dict[str, list[str]]:
    """Return for each of the values the tables with a row that contains it; none without one."""
    searches = [
        SEARCH.format(oid=oid, table=name.replace(":", r"\:"))
        for oid, name in connection.execute(TABLES)
    ]
    found: defaultdict[str, list[str]] = defaultdict(list)
    rows = connection.execute(text(" UNION ALL ".join(searches)), {"values": list(values)})
    for value, table in rows:
        found[value].append(table)
    return dict(found)
