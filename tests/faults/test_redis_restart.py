"""Redis dies in the middle of a hundred first logins and comes back, and nobody notices."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from dev.clients import few_at_a_time, is_served, new_users, request_as
from dev.databases import count
from dev.fake_clerk import DevUser
from dev.servers import Redis, Served, free_port, logged, served, start_redis, wait_for

PEOPLE = new_users(120)
LAST_WITH_IT, FIRST_WITH_IT_AGAIN = PEOPLE[40], PEOPLE[80]

StartRedis = Callable[[], Redis]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRedis]:
    """Starts a Redis, each time under the same URL."""
    port = free_port()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(start_redis(tmp_path, port))


@pytest.fixture
def redis(start: StartRedis) -> Redis:
    """The Redis that is going to die."""
    return start()


@pytest.fixture
def app(url: str, redis: Redis, tmp_path: Path) -> Iterator[Served]:
    """The app in two worker processes that share this Redis."""
    settings = {"DATABASE_URL": url, "REDIS_URL": redis.url, "WEB_CONCURRENCY": "2"}
    with served(tmp_path, **settings) as app:
        yield app


def sign_in(app: Served, redis: Redis, start: StartRedis, person: DevUser) -> list[bool]:
    """Sign in and look at the own account; two people see to it that Redis dies and returns."""
    if person == LAST_WITH_IT:
        redis.process.kill()
        redis.process.wait()
    if person == FIRST_WITH_IT_AGAIN:
        start()
    return [
        is_served(request_as(app, person)),
        is_served(request_as(app, person, "/api/auth/me", "GET")),
    ]


def test_nobody_notices_that_redis_dies_and_comes_back(
    app: Served, url: str, redis: Redis, start: StartRedis
) -> None:
    answers = few_at_a_time(partial(sign_in, app, redis, start), PEOPLE)

    assert answers == [[True, True]] * len(PEOPLE)
    assert logged(app, "cache_error") != []
    assert wait_for(f"{app.url}/readyz").json()["checks"]["redis"] == "ok"
    assert count(url, "SELECT count(user_id) FROM mentorados") == len(PEOPLE)
