"""What tests of faults start from: a database of their own, and two processes that serve it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.commit_proxy import Relay, relayed
from dev.databases import connect_to
from dev.servers import Postgres, Served, served, start_postgres

TURNSTILE = """
CREATE FUNCTION pass_the_turnstile() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN NEW; END $$;
CREATE TRIGGER turnstile BEFORE INSERT ON mentorados
   FOR EACH ROW EXECUTE FUNCTION pass_the_turnstile();
"""


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database of the test's own."""
    return copy_database(f"faults_{tmp_path.name}")


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server of the test's own, which may crash or hang."""
    with start_postgres(tmp_path / "database") as server:
        yield server


@pytest.fixture
def settings() -> dict[str, str]:
    """What a test wants otherwise than usual."""
    return {}


@pytest.fixture
def app(url: str, tmp_path: Path, settings: dict[str, str]) -> Iterator[Served]:
    """The app in two worker processes."""
    usual = {"DATABASE_URL": url, "WEB_CONCURRENCY": "2", "WEB_THREADS": "8"}
    with served(tmp_path, **{**usual, **settings}) as app:
        yield app


@pytest.fixture
def relay(url: str) -> Iterator[Relay]:
    """The wire between the app and its database."""
    with relayed(url) as relay:
        yield relay


@pytest.fixture
def turnstile(url: str) -> str:
    """The query that holds up everybody whose profile is about to be written."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(TURNSTILE)
    return "SELECT pg_advisory_xact_lock(1)"
