"""The pool opens connections in the background and loses none."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from psycopg2 import OperationalError
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from benchmarks.databases import SimulatedNetwork, connect_to, count, network_proxy
from benchmarks.servers import eventually
from core import deadlines
from core.connection_pool import (
    LONG_WAITS,
    RENEWAL_SECONDS,
    ConnectionPool,
    KnownOutageError,
    pool_of,
    prepare_engine,
)
from core.deadlines import DeadlineError, DeferredBeginConnection, ServerSilentError

ONE = text("SELECT 1")
POOL_SIZE = 3
CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'pooled'
"""


@pytest.fixture
def url(new_database: Callable[[str], str], tmp_path: Path) -> str:
    """The URL of an empty database for one test."""
    return new_database(f"pool_{tmp_path.name}")


@pytest.fixture
def network(url: str) -> Iterator[SimulatedNetwork]:
    with network_proxy(url) as network:
        yield network


@pytest.fixture
def engine(network: SimulatedNetwork) -> Iterator[Engine]:
    """An engine like the app's; requests wait 0.1 s for a connection."""
    deadlines.install_wait_callback()
    engine = create_engine(
        network.url,
        poolclass=ConnectionPool,
        pool_size=POOL_SIZE,
        pool_timeout=0.1,
        connect_seconds=5.0,
        use_native_hstore=False,
        connect_args={"connection_factory": DeferredBeginConnection, "application_name": "pooled"},
    )
    prepare_engine(engine)
    yield engine
    engine.dispose()


def run_query(engine: Engine) -> object:
    """Run a query with the deadline of a request."""
    deadlines.set_for_request(1.0)
    try:
        with engine.connect() as connection:
            return connection.scalar(ONE)
    finally:
        deadlines.set_for_request(None)


def is_served(engine: Engine) -> bool:
    try:
        return run_query(engine) == 1
    except DBAPIError:
        return False


def failure_of(engine: Engine) -> BaseException | None:
    with pytest.raises(DBAPIError) as caught:
        run_query(engine)
    return caught.value.orig


def test_connection_opened_after_a_request_timed_out_serves_the_next(
    engine: Engine, network: SimulatedNetwork
) -> None:
    network.is_slow = True
    early = failure_of(engine)
    network.is_slow = False

    assert isinstance(early, KnownOutageError)
    assert eventually(lambda: is_served(engine))
    assert network.accepted == 1


def test_thread_without_a_deadline_waits_for_a_connection(
    engine: Engine, network: SimulatedNetwork
) -> None:
    network.connect_seconds = 0.5

    with engine.connect() as connection:
        assert connection.scalar(ONE) == 1


def test_returned_connection_serves_a_thread_that_waits_for_a_new_one(
    engine: Engine, network: SimulatedNetwork
) -> None:
    with ThreadPoolExecutor(1) as threads:
        with engine.connect() as connection:
            connection.execute(ONE)
            network.is_slow = True
            waiting = threads.submit(lambda: engine.connect().scalar(ONE))
            assert eventually(lambda: network.accepted == 2)

        assert waiting.result(timeout=10) == 1
    network.is_slow = False


def test_threads_open_one_connection_until_the_server_has_answered(
    engine: Engine, network: SimulatedNetwork
) -> None:
    network.is_slow = True

    with ThreadPoolExecutor(8) as threads:
        errors = list(threads.map(lambda _: failure_of(engine), range(8)))

    assert {type(error) for error in errors} == {KnownOutageError}
    assert network.accepted == 1
    network.is_slow = False


def test_pool_opens_no_more_connections_than_its_size(
    engine: Engine, network: SimulatedNetwork, url: str
) -> None:
    run_query(engine)
    start, stop = Event(), Event()

    def hold_connection() -> None:
        with engine.connect() as connection:
            connection.execute(ONE)
            start.set()
            stop.wait(timeout=10)

    with ThreadPoolExecutor(8) as threads:
        held: list[Future[None]] = [threads.submit(hold_connection) for _ in range(8)]
        assert eventually(lambda: count(url, CONNECTIONS) == POOL_SIZE)
        with pytest.raises(PoolTimeoutError):
            run_query(engine)
        stop.set()
        for thread in held:
            thread.result()

    assert count(url, CONNECTIONS) == POOL_SIZE


def test_refused_connect_is_reported_at_once_and_the_next_one_is_tried(
    engine: Engine, network: SimulatedNetwork
) -> None:
    network.resets = True
    error = failure_of(engine)
    network.resets = False

    assert isinstance(error, OperationalError)
    assert not isinstance(error, KnownOutageError)
    assert eventually(lambda: is_served(engine))


def test_silent_connect_does_not_block_new_ones_once_the_server_is_back(
    engine: Engine, network: SimulatedNetwork
) -> None:
    network.is_silent = True
    assert not is_served(engine)
    network.is_silent = False

    assert eventually(lambda: is_served(engine))


@pytest.mark.real_time_limits
def test_deadline_of_a_thread_closes_only_its_own_connection(
    engine: Engine, network: SimulatedNetwork
) -> None:
    with engine.connect() as first, engine.connect() as second:
        first.execute(ONE)
        second.execute(ONE)
        with pytest.raises(DBAPIError) as caught, deadlines.within(0.1):
            second.execute(text("SELECT pg_sleep(10)"))  # in a transaction without timeouts
    with engine.connect() as connection:
        connection.execute(ONE)

    assert type(caught.value.orig) is DeadlineError
    assert network.accepted == 2


@pytest.mark.real_time_limits
def test_silent_server_closes_all_connections_of_the_pool(
    engine: Engine, network: SimulatedNetwork
) -> None:
    with engine.connect() as first, engine.connect() as second:
        first.execute(ONE)
        second.execute(ONE)
    network.is_silent = True

    with pytest.raises(DBAPIError) as caught, deadlines.within(5, statement_seconds=0.1):
        engine.connect().execute(ONE)
    network.is_silent = False
    with engine.connect() as connection:
        connection.execute(ONE)

    assert isinstance(caught.value.orig, ServerSilentError)
    assert network.accepted == 3


def test_request_after_its_deadline_takes_no_connection(
    engine: Engine, network: SimulatedNetwork
) -> None:
    run_query(engine)

    with deadlines.within(0), pytest.raises(DBAPIError) as caught:
        engine.connect()

    assert isinstance(caught.value.orig, DeadlineError)
    assert is_served(engine)
    assert network.accepted == 1


def test_connection_that_opens_after_dispose_is_closed(
    engine: Engine, network: SimulatedNetwork, url: str
) -> None:
    network.is_slow = True
    assert not is_served(engine)
    engine.dispose()
    network.is_slow = False
    with engine.connect() as connection:  # of the new pool, opened after the first one
        connection.execute(ONE)

    assert network.accepted == 2
    assert eventually(lambda: count(url, CONNECTIONS) == 1)


def test_connection_in_use_at_dispose_is_closed_when_returned(engine: Engine, url: str) -> None:
    with engine.connect() as connection:
        connection.execute(ONE)
        engine.dispose()

    assert eventually(lambda: count(url, CONNECTIONS) == 0)


def test_open_first_opens_one_connection(engine: Engine, network: SimulatedNetwork) -> None:
    pool_of(engine).open_first(10)

    assert (network.accepted, pool_of(engine).checkedin()) == (1, 1)


def test_open_first_continues_in_the_background_after_its_timeout(
    engine: Engine, network: SimulatedNetwork
) -> None:
    network.is_slow = True
    pool_of(engine).open_first(0.1)
    network.is_slow = False

    assert eventually(lambda: pool_of(engine).checkedin() == 1)
    assert network.accepted == 1


def test_only_two_threads_wait_for_the_first_connection_until_it_is_open(
    engine: Engine, network: SimulatedNetwork
) -> None:
    pool = pool_of(engine)
    network.is_slow = True
    assert not is_served(engine)

    def is_turned_away() -> bool:
        started = time.monotonic()
        pool.wait_while_connecting(0.2)
        return time.monotonic() - started < 0.1

    with ThreadPoolExecutor(LONG_WAITS) as threads:
        first_is_turned_away = is_turned_away()
        waiting = [threads.submit(pool.wait_while_connecting, 30) for _ in range(LONG_WAITS)]
        assert eventually(is_turned_away)
        network.is_slow = False
        for thread in waiting:
            thread.result(timeout=10)

    assert not first_is_turned_away
    assert pool.checkedin() == 1


def test_round_trip_is_measured_on_connect(engine: Engine, network: SimulatedNetwork) -> None:
    network.round_trip_seconds = 0.05

    with engine.connect() as connection:
        connection.execute(ONE)

    assert 0.05 <= pool_of(engine).server.round_trip_seconds < 0.25


@pytest.mark.parametrize(
    ("statement", "is_invalid"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", True),
        ("DO $$ BEGIN RAISE EXCEPTION 'pooler' USING ERRCODE = '08P01'; END $$", True),
        ("DO $$ BEGIN RAISE EXCEPTION 'internal' USING ERRCODE = 'XX000'; END $$", False),
    ],
    ids=["fatal", "pooler", "error"],
)
def test_connection_is_replaced_after_an_error_that_ends_its_session(
    engine: Engine, statement: str, is_invalid: bool
) -> None:
    with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(text(statement))

    assert caught.value.connection_invalidated is is_invalid
    assert eventually(lambda: is_served(engine))


def test_connections_of_a_read_only_database_are_replaced_until_one_accepts_writes(
    engine: Engine, url: str
) -> None:
    name = make_url(url).database
    refuse = text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    accept = text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')

    def is_written() -> bool:
        try:
            with engine.begin() as connection:
                connection.execute(text("SELECT nextval('numbers')"))
        except DBAPIError:
            return False
        return True

    with connect_to(url) as other:
        other.execute(text("CREATE SEQUENCE numbers"))
        other.execute(refuse)
        during = (is_written(), pool_of(engine).server.is_read_only)
        other.execute(accept)

    assert during == (False, True)
    assert eventually(is_written, seconds=2 * RENEWAL_SECONDS)
    assert not pool_of(engine).server.is_read_only
