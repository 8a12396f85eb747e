"""Connections that say little: what they send, when, and what SQLAlchemy finds of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from select import select
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from core import deadlines
from core.connection_pool import ConnectionPool
from core.connections import DeferredBeginConnection, begin_statement
from core.deadlines import GRACE_SECONDS
from dev.commit_proxy import Relay, relayed
from dev.databases import count
from dev.servers import eventually

ONE = text("SELECT 1")
NOTE = text("INSERT INTO notes VALUES (:number)")
NOTES = "SELECT count(*) FROM notes"
LIMITS = text("""
    SELECT setting::int FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')
     ORDER BY name
""")
CUT = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'lean'
"""


@pytest.fixture
def url(new_database: Callable[[str], str], tmp_path: Path) -> str:
    """An empty database of the test's own."""
    return new_database(f"lean_{tmp_path.name}")


@pytest.fixture
def relay(url: str) -> Iterator[Relay]:
    with relayed(url) as relay:
        yield relay


@pytest.fixture
def engine(relay: Relay) -> Iterator[Engine]:
    """Lean, and with a table to write to."""
    told = {"connection_factory": DeferredBeginConnection, "application_name": "lean"}
    engine = create_engine(relay.url, connect_args=told, poolclass=ConnectionPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (number int UNIQUE)"))
    relay.tally.clear()
    yield engine
    engine.dispose()


def cut_off(connection: Any, url: str) -> None:
    """Have the server close this only connection; what it says at last is goodbye, unasked."""
    assert count(url, CUT) == 1
    assert eventually(lambda: select([connection], [], [], 0)[0] != [])


def cut_off_idle(engine: Engine, url: str) -> None:
    """Have the server close a connection that lies in the pool."""
    with engine.connect() as connection:
        connection.execute(ONE)
        idle = connection.connection.dbapi_connection
    cut_off(idle, url)


def test_transaction_opens_with_its_first_statement(engine: Engine, relay: Relay) -> None:
    with engine.begin() as connection:
        connection.execute(ONE)

    assert (relay.tally.round_trips, relay.tally.statements) == (2, 3)


def test_transaction_without_a_statement_says_nothing(engine: Engine, relay: Relay) -> None:
    with engine.begin():
        pass

    assert relay.tally.round_trips == 0


def test_what_is_committed_is_there(engine: Engine, url: str) -> None:
    with engine.begin() as connection:
        connection.execute(NOTE, {"number": 1})

    assert count(url, NOTES) == 1


def test_what_is_taken_back_is_not(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        connection.execute(NOTE, {"number": 1})
        connection.rollback()

    assert count(url, NOTES) == 0


def test_many_rows_at_once_belong_to_the_transaction(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.executemany("INSERT INTO notes VALUES (%s)", [(1,), (2,)])
        connection.connection.rollback()

    assert count(url, NOTES) == 0


def test_refused_statement_leaves_the_connection_usable(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        connection.execute(NOTE, {"number": 1})
        with pytest.raises(IntegrityError):
            connection.execute(NOTE, {"number": 1})

    with engine.begin() as connection:
        connection.execute(NOTE, {"number": 2})
    assert count(url, "SELECT sum(number) FROM notes") == 2


def test_limits_are_what_is_left_of_the_time(engine: Engine) -> None:
    with deadlines.within(2.0 + GRACE_SECONDS), engine.connect() as connection:
        lock, statement = connection.scalars(LIMITS)

    assert 0 < lock < statement <= 2_000


def test_limits_end_with_their_transaction(engine: Engine) -> None:
    with deadlines.within(2.0), engine.begin() as connection:
        connection.execute(ONE)
    with engine.connect() as connection:
        assert list(connection.scalars(LIMITS)) == [0, 0]


@pytest.mark.parametrize(("seconds", "idle"), [(0.9, "0"), (5.0, "10s"), (60.0, "10s")])
def test_frozen_sweep_does_not_keep_its_locks(engine: Engine, seconds: float, idle: str) -> None:
    with deadlines.within(seconds + GRACE_SECONDS), engine.connect() as connection:
        limit = connection.scalar(text("SHOW idle_in_transaction_session_timeout"))

    assert limit == idle


def test_time_that_is_up_is_no_limit_of_nothing() -> None:
    with deadlines.within(0):
        assert "statement_timeout = 1;" in begin_statement()


def test_connection_that_the_server_has_closed_is_replaced(engine: Engine, url: str) -> None:
    cut_off_idle(engine, url)

    with engine.begin() as connection:
        connection.execute(ONE)


def test_server_that_hangs_up_on_everybody_is_an_outage_and_not_our_mistake(
    engine: Engine, url: str
) -> None:
    @event.listens_for(engine, "connect")
    def cut(connection: Any, _: object) -> None:
        cut_off(connection, url)

    cut_off_idle(engine, url)

    with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
        connection.execute(ONE)
    assert caught.value.connection_invalidated


def test_connection_that_is_closed_in_between_says_so(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        connection.execute(ONE)
        count(url, CUT)

        with pytest.raises(DBAPIError) as caught:
            connection.execute(ONE)
        assert caught.value.connection_invalidated
