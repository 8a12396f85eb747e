"""Fixtures of the fault tests: a database for each test and two worker processes on it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.databases import SimulatedNetwork, connect_to, network_proxy
from benchmarks.servers import AppServer, PostgresServer
from tests.support.databases import start_copy
from tests.support.servers import run_test_app

BARRIER = """
CREATE FUNCTION wait_for_barrier() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
CREATE TRIGGER barrier BEFORE INSERT ON mentorados
   FOR EACH ROW EXECUTE FUNCTION wait_for_barrier();
"""
EXPIRE_LEASE = """
UPDATE sweep_runs SET heartbeat_at = now() - interval '1 minute' WHERE status = 'running'
"""


@pytest.fixture
def postgres(migrated_data: Path, tmp_path: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL server for one test, which may crash or hang."""
    with start_copy(migrated_data, tmp_path / "database") as server:
        yield server


@pytest.fixture
def settings() -> dict[str, str]:
    """Settings that a test overrides."""
    return {}


@pytest.fixture
def app(
    url: str, tmp_path: Path, settings: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[AppServer]:
    """The app in two worker processes."""
    defaults = {"DATABASE_URL": url, "WEB_CONCURRENCY": "2", "WEB_THREADS": "8"}
    with run_test_app(tmp_path, request, **{**defaults, **settings}) as app:
        yield app


@pytest.fixture
def relay(url: str) -> Iterator[SimulatedNetwork]:
    """A proxy between the app and its database."""
    with network_proxy(url) as relay:
        yield relay


@pytest.fixture
def barrier(url: str) -> str:
    """A query whose lock blocks all inserts of profiles until its transaction ends."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(BARRIER)
    return "SELECT pg_advisory_xact_lock(1)"


@pytest.fixture
def expire_lease(url: str) -> Callable[[], None]:
    """A function that ends the lease of the running sweep at once, instead of after 15 seconds."""

    def expire() -> None:
        with connect_to(url) as connection:
            connection.exec_driver_sql(EXPIRE_LEASE)

    return expire
