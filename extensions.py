"""The shared parts, unbound until the app meets them, and the one place that commits."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from flask_caching import Cache
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, Text, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, registry
from sqlalchemy.sql.functions import Function

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
# A wait for a lock ends before its statement would, so that the error says which of the two it was.
LOCK_SHARE = 0.75

Transaction = Callable[[], AbstractContextManager[Session]]


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


@contextmanager
def transaction(timeout_seconds: float = STATEMENT_TIMEOUT_SECONDS) -> Iterator[Session]:
    """One unit of work: commits at the end, rolls back on any error, leaves nothing idle behind.

    Each statement and each wait for a lock is bounded by the timeout, set for this transaction
    only, so that it holds through a transaction-mode pooler. Raises what SQLAlchemy raises, also
    when it commits.
    """
    with _begun(timeout_seconds) as session:
        yield session
        session.commit()


@contextmanager
def background_transaction() -> Iterator[Session]:
    """A unit of work that nobody waits for: the same guarantees, with time to finish."""
    with transaction(BACKGROUND_TIMEOUT_SECONDS) as session:
        yield session


def _begun(timeout_seconds: float) -> Session:
    """A session in a transaction whose first statement has already reached the server.

    A connection that died in the pool shows up here, where nothing is lost by taking a new one, so
    that no round trip is spent on asking beforehand.
    """
    limits = select(
        _limit("statement_timeout", timeout_seconds),
        _limit("lock_timeout", timeout_seconds * LOCK_SHARE),
    )
    session = _session()
    try:
        session.execute(limits)
    except DBAPIError as err:
        session.close()
        if not err.connection_invalidated:
            raise
        session = _session()
        session.execute(limits)
    return session


def _limit(name: str, seconds: float) -> Function[str]:
    for_this_transaction_only = text("true")
    return func.set_config(name, f"{seconds * 1000:.0f}ms", for_this_transaction_only)


def _session() -> Session:
    # A session of its own instead of db.session: what one unit of work has read never leaks into
    # the next. create_savepoint only matters where a test has already opened the transaction.
    return Session(db.engine, expire_on_commit=False, join_transaction_mode="create_savepoint")
