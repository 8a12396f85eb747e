"""Without the database, known users see their last overview and stay signed in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as client
import requests

from benchmarks.databases import count
from benchmarks.servers import (
    AppServer,
    PostgresServer,
    RedisServer,
    eventually,
    is_retryable,
    is_served,
    request_as,
    run_app,
    start_redis,
    workers,
)
from dev.fake_clerk import DevUser
from tests.support.clients import new_users
from tests.support.databases import start_copy
from tests.support.users import ALICE, BOB, CHARLIE

BANNER = "por enquanto não dá para alterar nada"
OVERVIEW = "/api/mentorados/me/overview"
[NEW_USER] = new_users(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the app and its database."""
    return tmp_path_factory.mktemp("read_only")


@pytest.fixture(scope="module")
def postgres(migrated_data: Path, folder: Path) -> Iterator[PostgresServer]:
    """A server that the test stops."""
    with start_copy(migrated_data, folder / "database") as server:
        yield server


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[RedisServer]:
    """The cache that both processes share."""
    with start_redis(folder) as server:
        yield server


@pytest.fixture(scope="module")
def app(postgres: PostgresServer, redis: RedisServer, folder: Path) -> Iterator[AppServer]:
    """The app in two worker processes, with contexts that expire after one second."""
    settings = {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "WEB_CONCURRENCY": "2"}
    with run_app(folder, **settings, SESSION_TTL_SECONDS="1") as app:
        yield app


@pytest.fixture(scope="module")
def last_overview(app: AppServer, postgres: PostgresServer, redis: RedisServer) -> object:
    """Alice's last overview; the database is down and her cached context has expired."""
    for user in (ALICE, CHARLIE):
        request_as(app, user)
        open_dashboard(app, user)
    overview = request_as(app, ALICE, OVERVIEW, "GET").json()
    postgres.crash()
    with client.Redis.from_url(redis.url) as store:
        assert eventually(lambda: not store.exists(f"neon:context:{ALICE.clerk_id}"))
    return overview


def open_dashboard(app: AppServer, user: DevUser) -> requests.Response:
    return request_as(app, user, "/dashboard", "GET")


def test_last_overview_is_shown_as_read_only(
    app: AppServer, last_overview: dict[str, object]
) -> None:
    answer = request_as(app, ALICE, OVERVIEW, "GET")

    assert answer.json() == {**last_overview, "read_only": True}


@pytest.mark.usefixtures("last_overview")
def test_dashboard_shows_the_read_only_banner(app: AppServer) -> None:
    page = open_dashboard(app, ALICE)

    assert (page.status_code, BANNER in page.text, page.history) == (200, True, [])


@pytest.mark.usefixtures("last_overview")
def test_write_is_refused_as_retryable(app: AppServer) -> None:
    assert is_retryable(request_as(app, ALICE))


@pytest.mark.usefixtures("last_overview")
def test_unknown_user_gets_a_page_that_reloads_itself(app: AppServer) -> None:
    page = open_dashboard(app, BOB)

    assert (page.status_code, page.headers["Retry-After"], page.history) == (503, "2", [])
    assert 'http-equiv="refresh"' in page.text


@pytest.mark.usefixtures("last_overview")
def test_full_service_resumes_when_the_database_is_back(
    app: AppServer, postgres: PostgresServer
) -> None:
    before = workers(app)

    with postgres.restarted():
        assert eventually(lambda: is_served(open_dashboard(app, NEW_USER)), seconds=4)
        has_banner = BANNER in open_dashboard(app, CHARLIE).text
        profiles = count(postgres.url, "SELECT count(user_id) FROM mentorados")

    assert (has_banner, profiles, workers(app)) == (False, 3, before)
