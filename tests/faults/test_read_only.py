"""The database is away: whoever was here sees their last numbers, and nobody is thrown out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis as client
import requests

from dev.clients import is_retryable, is_served, new_users, request_as
from dev.databases import count
from dev.servers import (
    Postgres,
    Redis,
    Served,
    eventually,
    served,
    start_postgres,
    start_redis,
    workers,
)
from tests.support.users import ALICE, BOB, CHARLIE

BANNER = "por enquanto não dá para alterar nada"
OVERVIEW = "/api/mentorados/me/overview"
[NEWCOMER] = new_users(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app and its database live."""
    return tmp_path_factory.mktemp("read_only")


@pytest.fixture(scope="module")
def postgres(folder: Path) -> Iterator[Postgres]:
    """A server that may go away."""
    with start_postgres(folder / "database") as server:
        yield server


@pytest.fixture(scope="module")
def redis(folder: Path) -> Iterator[Redis]:
    """The cache of both processes."""
    with start_redis(folder) as server:
        yield server


@pytest.fixture(scope="module")
def app(postgres: Postgres, redis: Redis, folder: Path) -> Iterator[Served]:
    """The app in two worker processes, with contexts that live for one second."""
    settings = {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url, "WEB_CONCURRENCY": "2"}
    with served(folder, **settings, SESSION_TTL_SECONDS="1") as app:
        yield app


@pytest.fixture(scope="module")
def numbers(app: Served, postgres: Postgres, redis: Redis) -> object:
    """What Alice saw last before the database went away, long after her context has expired."""
    for person in (ALICE, CHARLIE):
        request_as(app, person)
        visit(app, person)
    seen = request_as(app, ALICE, OVERVIEW, "GET").json()
    postgres.crash()
    with client.Redis.from_url(redis.url) as store:
        assert eventually(lambda: not store.exists(f"neon:context:{ALICE.clerk_id}"))
    return seen


def visit(app: Served, person: object) -> requests.Response:
    return request_as(app, person, "/dashboard", "GET")  # type: ignore[arg-type] # a Person


def test_last_numbers_are_shown_and_marked(app: Served, numbers: dict[str, object]) -> None:
    answer = request_as(app, ALICE, OVERVIEW, "GET")

    assert answer.json() == {**numbers, "read_only": True}


@pytest.mark.usefixtures("numbers")
def test_dashboard_says_since_when(app: Served) -> None:
    page = visit(app, ALICE)

    assert (page.status_code, BANNER in page.text, page.history) == (200, True, [])


@pytest.mark.usefixtures("numbers")
def test_writing_is_put_off(app: Served) -> None:
    assert is_retryable(request_as(app, ALICE))


@pytest.mark.usefixtures("numbers")
def test_whoever_was_not_here_gets_a_page_that_tries_again_by_itself(app: Served) -> None:
    page = visit(app, BOB)

    assert (page.status_code, page.headers["Retry-After"], page.history) == (503, "2", [])
    assert 'http-equiv="refresh"' in page.text


@pytest.mark.usefixtures("numbers")
def test_service_is_whole_again_while_the_database_is_back(app: Served, postgres: Postgres) -> None:
    before = workers(app)

    with postgres.back():
        assert eventually(lambda: is_served(visit(app, NEWCOMER)), seconds=4)
        banners = BANNER in visit(app, CHARLIE).text
        profiles = count(postgres.url, "SELECT count(user_id) FROM mentorados")

    assert (banners, profiles, workers(app)) == (False, 3, before)
