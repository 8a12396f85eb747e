"""Connections to databases from outside the app, which see only committed rows."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.engine import Connection

# Makes every insert of a profile fail with a permanent error.
REFUSE_PROFILES = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'poisoned' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER poison BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION poison();
"""


@contextmanager
def connect_to(url: str) -> Iterator[Connection]:
    """Open a connection in autocommit mode."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def hold_locks(url: str, query: str) -> Iterator[Connection]:
    """Open a connection that holds the locks of a query until it rolls back or is closed."""
    with create_engine(url, poolclass=NullPool).connect() as connection:
        connection.execute(text(query))
        yield connection


def count(url: str, query: str, **values: object) -> int:
    """Return the result of a counting query."""
    with connect_to(url) as connection:
        return int(connection.execute(text(query), values).scalar_one())
