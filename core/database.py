"""The shared parts, unbound until the app meets them, and the one place that commits."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from flask_caching import Cache
from flask_migrate import Migrate
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
STATEMENT_TIMEOUT_SECONDS = 0.9  # early enough for a coded answer within two seconds
BACKGROUND_TIMEOUT_SECONDS = 60.0  # sweeps and commands: nobody waits, but nothing hangs for ever
COMMIT_SECONDS = 0.1  # what this process does between the statements of a transaction

Transaction = Callable[[], AbstractContextManager[Session]]
Bound = Callable[..., AbstractContextManager[None]]


class Base(DeclarativeBase):
    """Where all tables are declared."""

    registry = registry(
        metadata=MetaData(naming_convention=NAMING), type_annotation_map={str: Text}
    )


db = SQLAlchemy(model_class=Base, disable_autonaming=True)
migrate = Migrate(db=db, compare_type=True, compare_server_default=True)
cache = Cache()

if TYPE_CHECKING:
    Model = Base  # db.Model is made at run time, where no type checker can follow
else:
    Model = db.Model


def transaction(
    timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS,
) -> AbstractContextManager[Session]:
    """One unit of work: commits at the end, rolls back on any error, leaves nothing idle behind.

    The server ends each statement and each wait for a lock by the timeout. The clock of this
    process bounds the whole, and by what is left of the request's time, for a server that has
    stopped answering; it adds the round trips, so that a far database has the same time for its
    work as a near one. Nothing reaches the server before the first statement. Raises what
    SQLAlchemy raises, also when it commits.
    """
    return _unit_of_work(deadlines.within, timeout_seconds)


def background_transaction(
    timeout_seconds: float = BACKGROUND_TIMEOUT_SECONDS,
) -> AbstractContextManager[Session]:
    """A unit of work with time to finish, also beyond a request's: the same guarantees."""
    return _unit_of_work(deadlines.beyond, timeout_seconds)


@contextmanager
def _unit_of_work(bounded: Bound, timeout_seconds: float) -> Iterator[Session]:
    # A session of its own instead of db.session: what one unit of work has read never leaks into
    # the next. create_savepoint only matters where a test has already opened the transaction.
    session = Session(db.engine, expire_on_commit=False, join_transaction_mode="create_savepoint")
    connection = session.connection()  # the time below is for the work, not for the wait for this
    round_trip = pool_of(connection.engine).server.round_trip_seconds
    grace = GRACE_SECONDS + round_trip
    whole = timeout_seconds + grace + ROUND_TRIPS * round_trip + COMMIT_SECONDS
    with bounded(whole, statement_seconds=timeout_seconds, grace_seconds=grace), session:
        yield session
        session.commit()
