"""Connections that send BEGIN with the first statement: round trips, timeouts and errors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from select import select
from typing import Any, cast

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from benchmarks.databases import SimulatedNetwork, count, network_proxy
from benchmarks.servers import eventually
from core import deadlines
from core.connection_pool import ConnectionPool
from core.deadlines import GRACE_SECONDS, DeferredBeginConnection, begin_statement

pytestmark = pytest.mark.real_time_limits
ONE = text("SELECT 1")
INSERT_NOTE = text("INSERT INTO notes VALUES (:number)")
COUNT_NOTES = "SELECT count(*) FROM notes"
TIMEOUTS = text("""
    SELECT setting::int FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')
     ORDER BY name
""")
TERMINATE_CONNECTIONS = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'deferred'
"""


@pytest.fixture
def url(new_database: Callable[[str], str], tmp_path: Path) -> str:
    """The URL of an empty database for one test."""
    return new_database(f"deferred_{tmp_path.name}")


@pytest.fixture
def relay(url: str) -> Iterator[SimulatedNetwork]:
    with network_proxy(url) as relay:
        yield relay


@pytest.fixture
def engine(relay: SimulatedNetwork) -> Iterator[Engine]:
    """An engine with deferred BEGIN, and a table to write to."""
    connect_args = {"connection_factory": DeferredBeginConnection, "application_name": "deferred"}
    engine = create_engine(relay.url, connect_args=connect_args, poolclass=ConnectionPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (number int UNIQUE)"))
    relay.tally.clear()
    yield engine
    engine.dispose()


def terminate(connection: Any, url: str) -> None:
    """Terminate this only connection and wait until the server's last message has arrived."""
    assert count(url, TERMINATE_CONNECTIONS) == 1
    assert eventually(lambda: select([connection], [], [], 0)[0] != [])


def terminate_idle(engine: Engine, url: str) -> None:
    """Terminate an idle connection of the pool."""
    with engine.connect() as connection:
        connection.execute(ONE)
        idle = connection.connection.dbapi_connection
    terminate(idle, url)


def test_single_statement_is_committed_in_one_round_trip(
    engine: Engine, relay: SimulatedNetwork, url: str
) -> None:
    with deadlines.within(2.0, is_single_statement=True), engine.begin() as connection:
        connection.execute(INSERT_NOTE, {"number": 1})

    assert (relay.tally.round_trips, count(url, COUNT_NOTES)) == (1, 1)


def test_single_statement_has_timeouts_that_end_with_it(engine: Engine) -> None:
    with deadlines.within(2.0, is_single_statement=True), engine.connect() as connection:
        lock, statement = connection.scalars(TIMEOUTS)
    with engine.connect() as connection:
        assert list(connection.scalars(TIMEOUTS)) == [0, 0]
    assert 0 < lock < statement <= 2_000


def test_begin_is_sent_with_the_first_statement(engine: Engine, relay: SimulatedNetwork) -> None:
    with engine.begin() as connection:
        connection.execute(ONE)

    assert (relay.tally.round_trips, relay.tally.statements) == (2, 3)


def test_transaction_without_a_statement_sends_nothing(
    engine: Engine, relay: SimulatedNetwork
) -> None:
    with engine.begin():
        pass

    assert relay.tally.round_trips == 0


def test_committed_row_is_stored(engine: Engine, url: str) -> None:
    with engine.begin() as connection:
        connection.execute(INSERT_NOTE, {"number": 1})

    assert count(url, COUNT_NOTES) == 1


def test_rolled_back_row_is_not_stored(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        connection.execute(INSERT_NOTE, {"number": 1})
        connection.rollback()

    assert count(url, COUNT_NOTES) == 0


def test_executemany_belongs_to_the_transaction(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.executemany("INSERT INTO notes VALUES (%s)", [(1,), (2,)])
        connection.connection.rollback()

    assert count(url, COUNT_NOTES) == 0


def test_connection_is_usable_after_a_refused_statement(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        connection.execute(INSERT_NOTE, {"number": 1})
        with pytest.raises(IntegrityError):
            connection.execute(INSERT_NOTE, {"number": 1})

    with engine.begin() as connection:
        connection.execute(INSERT_NOTE, {"number": 2})
    assert count(url, "SELECT sum(number) FROM notes") == 2


@pytest.mark.real_time_limits
def test_timeouts_are_the_time_that_remains(engine: Engine) -> None:
    with deadlines.within(2.0 + GRACE_SECONDS), engine.connect() as connection:
        lock, statement = connection.scalars(TIMEOUTS)

    assert 0 < lock < statement <= 2_000


def test_timeouts_end_with_their_transaction(engine: Engine) -> None:
    with deadlines.within(2.0), engine.begin() as connection:
        connection.execute(ONE)
    with engine.connect() as connection:
        assert list(connection.scalars(TIMEOUTS)) == [0, 0]


@pytest.mark.real_time_limits
@pytest.mark.parametrize(("seconds", "idle"), [(0.9, "0"), (5.0, "10s"), (60.0, "10s")])
def test_idle_transaction_timeout_releases_locks_of_a_suspended_sweep(
    engine: Engine, seconds: float, idle: str
) -> None:
    with deadlines.within(seconds + GRACE_SECONDS), engine.connect() as connection:
        limit = connection.scalar(text("SHOW idle_in_transaction_session_timeout"))

    assert limit == idle


def test_timeout_after_the_deadline_is_one_millisecond(engine: Engine) -> None:
    with engine.connect() as connection, deadlines.within(0):
        driver_connection = cast(DeferredBeginConnection, connection.connection.dbapi_connection)

        assert "statement_timeout = 1;" in begin_statement(driver_connection)


def test_terminated_idle_connection_is_replaced(engine: Engine, url: str) -> None:
    terminate_idle(engine, url)

    with engine.begin() as connection:
        assert connection.scalar(ONE) == 1


def test_server_that_terminates_all_connections_is_an_outage(engine: Engine, url: str) -> None:
    @event.listens_for(engine, "connect")
    def terminate_new(connection: Any, _: object) -> None:
        terminate(connection, url)

    terminate_idle(engine, url)

    with pytest.raises(DBAPIError) as caught, engine.connect() as connection:
        connection.execute(ONE)
    assert caught.value.connection_invalidated


def test_connection_terminated_during_a_transaction_is_invalidated(
    engine: Engine, url: str
) -> None:
    with engine.connect() as connection:
        connection.execute(ONE)
        count(url, TERMINATE_CONNECTIONS)

        with pytest.raises(DBAPIError) as caught:
            connection.execute(ONE)
        assert caught.value.connection_invalidated
