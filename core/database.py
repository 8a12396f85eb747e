"""The extensions that `create_app` initialises, and units of work: the only place that commits."""

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, cast

from flask_caching import Cache
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Engine, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Session, registry

from core import deadlines
from core.connection_pool import ROUND_TRIPS, pool_of
from core.deadlines import GRACE_SECONDS

# PostgreSQL's own default names, so that an existing installation already follows the convention.
NAMING = {
    "pk": "%(table_name)s_pkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}
STATEMENT_TIMEOUT_SECONDS = 0.9  # leaves time for an error response within two seconds
BACKGROUND_TIMEOUT_SECONDS = 60.0  # of sweeps and commands
COMMIT_SECONDS = 0.1  # for the work of this process between the statements of a transaction

DIRECT = "direct"  # the bind key of the connection that bypasses the pooler

Transaction = Callable[[], AbstractContextManager[Session]]


class Base(DeclarativeBase):
    """The declarative base of all models."""

    registry = registry(
        metadata=MetaData(naming_convention=NAMING), type_annotation_map={str: Text}
    )


db = SQLAlchemy(model_class=Base, disable_autonaming=True)
cache = Cache()

if TYPE_CHECKING:
    Model = Base  # db.Model is created at run time, which type checkers cannot follow
else:
    Model = db.Model


class EmbeddedDatabaseError(OSError):
    """The embedded database does not start; the message is one line with the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, reason)


def use_direct_connection() -> None:
    """Use DATABASE_URL_UNPOOLED, where it is set, for the rest of this process.

    For commands that lock tables for long; a pooler would end their transaction or share it.
    """
    engines = cast(dict[str | None, Engine], db.engines)
    direct = engines.get(DIRECT)
    if direct is not None and engines[None] is not direct:
        engines[None].dispose()
        engines[None] = direct


@contextmanager
def transaction(
    timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
    *,
    is_background: bool = False,
    is_single_statement: bool = False,
) -> Iterator[Session]:
    """Yield the session of one unit of work: commit at the end, roll back on any error.

    The server ends each statement and each wait for a lock by the timeout. The deadline of this
    process limits the whole unit, within the request's time, in case the server stops answering;
    `is_background` ignores the request's time. Round trips are added to it, so that a far database
    has the same working time as a near one. Nothing is sent before the first statement.

    `is_single_statement` is for work of one statement, which is then a transaction of its own: one
    round trip. Each further statement would be another transaction. Raises SQLAlchemy's errors,
    also at the commit.
    """
    # A new session instead of db.session, so that no object leaks into the next unit of work.
    # create_savepoint only matters where a test has already opened the transaction.
    session = Session(db.engine, expire_on_commit=False, join_transaction_mode="create_savepoint")
    connection = session.connection()  # before the limit starts: the wait for it does not count
    round_trip = pool_of(connection.engine).server.round_trip_seconds
    grace = GRACE_SECONDS + round_trip
    with (
        deadlines.within(
            timeout_seconds + grace + ROUND_TRIPS * round_trip + COMMIT_SECONDS,
            is_background=is_background,
            statement_seconds=timeout_seconds,
            grace_seconds=grace,
            is_single_statement=is_single_statement,
        ),
        session,
    ):
        yield session
        session.commit()


def background_transaction(
    timeout_seconds: float = BACKGROUND_TIMEOUT_SECONDS,
) -> AbstractContextManager[Session]:
    """As `transaction`, but not limited by the request's time."""
    return transaction(timeout_seconds, is_background=True)


@contextmanager
def rolled_back(session: Session | Connection) -> Iterator[None]:
    """Undo at the end, by a savepoint, what is done inside; raises what is raised inside."""
    with session.begin_nested() as savepoint:
        yield
        savepoint.rollback()
