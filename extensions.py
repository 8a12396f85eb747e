"""The shared parts, unbound until the app meets them, and the one place that commits."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from flask_caching import Cache
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, MetaData, Text, event
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.orm import DeclarativeBase, Session, registry

import deadlines
from connections import GRACE_SECONDS
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
    lock; and by our own clock, for a server that has stopped answering. Nothing reaches the server
    before the first statement. Raises what SQLAlchemy raises, also when it commits.
    """
    # A session of its own instead of db.session: what one unit of work has read never leaks into
    # the next. create_savepoint only matters where a test has already opened the transaction.
    with (
        deadlines.within(timeout_seconds + GRACE_SECONDS),
        Session(
            db.engine, expire_on_commit=False, join_transaction_mode="create_savepoint"
        ) as session,
    ):
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
