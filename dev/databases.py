"""Looking at databases from the outside, where only what is committed counts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask import Flask
from sqlalchemy import create_engine, text
from sqlalchemy.engine import Connection

from app import create_app
from core.config import Config
from core.database import db
from dev import servers

# From now on no profile can be written, for a reason that does not pass.
REFUSE_PROFILES = """
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'poisoned' USING ERRCODE = '23514'; END $$;
CREATE TRIGGER poison BEFORE INSERT ON mentorados FOR EACH ROW EXECUTE FUNCTION poison();
"""
UNLIMITED = {name.lower(): int(number) for name, number in servers.UNLIMITED.items()}


@contextmanager
def connect_to(url: str) -> Iterator[Connection]:
    """A connection that commits at once."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def locking(url: str, query: str) -> Iterator[Connection]:
    """A connection that holds the locks of that query until it rolls back or is left."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            connection.execute(text(query))
            yield connection
    finally:
        engine.dispose()


def count(url: str, query: str, **values: object) -> int:
    """What a counting query says just now."""
    with connect_to(url) as connection:
        return int(connection.execute(text(query), values).scalar_one())


@contextmanager
def app_on(folder: Path, url: str, **settings: object) -> Iterator[Flask]:
    """An app of its own whose commits are real; its connections are closed at the end."""
    values = {"instance_path": folder, "database_url": url, **UNLIMITED, **settings}
    app = create_app(Config.model_validate(values))
    with app.app_context():
        yield app
        db.engine.dispose()
