"""The shared parts, unbound until the app meets them, and the one place that commits."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from flask_caching import Cache
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, MetaData, Select, Text, event, func, select, text
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, registry
from sqlalchemy.sql.functions import Function

import deadlines
from deadlines import DeadlineError
from outage import Outage

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
# What a server that runs gets on top, to say by itself that the time was up.
GRACE_SECONDS = 0.15
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

    The whole of it is bounded by the timeout: by the server for each statement and each wait for a
    lock, set for this transaction only, so that it holds through a transaction-mode pooler; and by
    our own clock, for a server that has stopped answering. Raises what SQLAlchemy raises, also when
    it commits.
    """
    with deadlines.within(timeout_seconds + GRACE_SECONDS), _begun(timeout_seconds) as session:
        yield session
        session.commit()


@contextmanager
def background_transaction(
    timeout_seconds: float = BACKGROUND_TIMEOUT_SECONDS,
) -> Iterator[Session]:
    """A unit of work that no person waits for: the same guarantees, with time to finish."""
    with (
        deadlines.beyond(timeout_seconds + GRACE_SECONDS),
        transaction(timeout_seconds) as session,
    ):
        yield session


def watch_for_outages(engine: Engine) -> Outage:
    """Have every attempt to connect noted; the result knows whether the server is away."""
    outage = Outage()

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _: object, args: list[str], kwargs: dict[str, str]) -> object:
        with outage.connecting():
            connection: DBAPIConnection = dialect.connect(*args, **kwargs)
            return connection

    return outage


def _begun(timeout_seconds: float) -> Session:
    """A session in a transaction whose first statement has already reached the server.

    A connection that died in the pool shows up here, where nothing is lost by taking a new one, so
    that no round trip is spent on asking beforehand.
    """
    limits = select(
        _limit("statement_timeout", timeout_seconds),
        _limit("lock_timeout", timeout_seconds * LOCK_SHARE),
    )
    try:
        return _session_after(limits)
    except DBAPIError as err:
        if not err.connection_invalidated or isinstance(err.orig, DeadlineError):
            raise
        return _session_after(limits)


def _session_after(statement: Select[str, str]) -> Session:
    # A session of its own instead of db.session: what one unit of work has read never leaks into
    # the next. create_savepoint only matters where a test has already opened the transaction.
    session = Session(db.engine, expire_on_commit=False, join_transaction_mode="create_savepoint")
    try:
        session.execute(statement)
    except BaseException:
        session.close()
        raise
    return session


def _limit(name: str, seconds: float) -> Function[str]:
    for_this_transaction_only = text("true")
    return func.set_config(name, f"{seconds * 1000:.0f}ms", for_this_transaction_only)
