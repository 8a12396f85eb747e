"""The extensions that `create_app` initialises, and units of work: the only place that commits."""

import errno
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from flask_caching import Cache
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, Text
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

Transaction = Callable[[], AbstractContextManager[Session]]
DeadlineFunction = Callable[..., AbstractContextManager[None]]


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


def transaction(
    timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
) -> AbstractContextManager[Session]:
    """Return a context manager for one unit of work: commit at the end, roll back on any error.

    The server ends each statement and each wait for a lock by the timeout. The deadline of this
    process limits the whole unit, within the request's time, in case the server stops answering.
    Round trips are added to it, so that a far database has the same working time as a near one.
    Nothing is sent before the first statement. Raises SQLAlchemy's errors, also at the commit.
    """
    return _unit_of_work(deadlines.within, timeout_seconds)


def background_transaction(
    timeout_seconds: float = BACKGROUND_TIMEOUT_SECONDS,
) -> AbstractContextManager[Session]:
    """As `transaction`, but not limited by the request's time."""
    return _unit_of_work(deadlines.beyond, timeout_seconds)


@contextmanager
def _unit_of_work(limit: DeadlineFunction, timeout_seconds: float) -> Iterator[Session]:
    # A new session instead of db.session, so that no object leaks into the next unit of work.
    # create_savepoint only matters where a test has already opened the transaction.
    session = Session(db.engine, expire_on_commit=False, join_transaction_mode="create_savepoint")
    connection = session.connection()  # before the limit starts: the wait for it does not count
    round_trip = pool_of(connection.engine).server.round_trip_seconds
    grace = GRACE_SECONDS + round_trip
    total_seconds = timeout_seconds + grace + ROUND_TRIPS * round_trip + COMMIT_SECONDS
    with limit(total_seconds, statement_seconds=timeout_seconds, grace_seconds=grace), session:
        yield session
        session.commit()
