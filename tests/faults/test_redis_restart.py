"""Redis is killed during a hundred first logins and restarted; all requests succeed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from benchmarks.databases import count
from benchmarks.servers import (
    AppServer,
    RedisServer,
    free_port,
    is_served,
    logged_events,
    request_as,
    start_redis,
    wait_for,
)
from dev.fake_clerk import DevUser
from tests.support.clients import new_users, run_with_few_threads
from tests.support.servers import run_test_app

USERS = new_users(120)
KILLING_USER, RESTARTING_USER = USERS[40], USERS[80]

StartRedis = Callable[[], RedisServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartRedis]:
    """A function that starts Redis, each time under the same URL."""
    port = free_port()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(start_redis(tmp_path, port))


@pytest.fixture
def redis(start: StartRedis) -> RedisServer:
    """The Redis that the test kills."""
    return start()


@pytest.fixture
def app(url: str, redis: RedisServer, tmp_path: Path) -> Iterator[AppServer]:
    """The app in two worker processes that share this Redis."""
    settings = {"DATABASE_URL": url, "REDIS_URL": redis.url, "WEB_CONCURRENCY": "2"}
    with run_test_app(tmp_path, **settings) as app:
        yield app


def sign_in(app: AppServer, redis: RedisServer, start: StartRedis, user: DevUser) -> list[bool]:
    """Sign in and read the own account; one user kills Redis before, another restarts it."""
    if user == KILLING_USER:
        redis.process.kill()
        redis.process.wait()
    if user == RESTARTING_USER:
        start()
    return [
        is_served(request_as(app, user)),
        is_served(request_as(app, user, "/api/auth/me", "GET")),
    ]


def test_all_requests_succeed_while_redis_is_killed_and_restarted(
    app: AppServer, url: str, redis: RedisServer, start: StartRedis
) -> None:
    answers = run_with_few_threads(partial(sign_in, app, redis, start), USERS)

    assert answers == [[True, True]] * len(USERS)
    assert logged_events(app, "cache_error") != []
    assert wait_for(f"{app.url}/readyz").json()["checks"]["redis"] == "ok"
    assert count(url, "SELECT count(user_id) FROM mentorados") == len(USERS)
