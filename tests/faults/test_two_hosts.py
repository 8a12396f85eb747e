"""Two hosts behind one proxy: when one of them fails, all requests are answered correctly."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests

from benchmarks.databases import connect_to, count
from benchmarks.servers import AppServer, RedisServer, eventually, is_served, request_as
from dev.fake_clerk import DevIdentityProvider, DevUser
from tests.support.clients import ADMIN, new_users, run_with_few_threads
from tests.support.nginx import run_nginx
from tests.support.servers import run_test_app
from tests.support.users import ALICE

USERS = new_users(60)
KILLING_USER = USERS[20]
MAX_ANSWER_SECONDS = 5
PROFILES = "SELECT count(*) FROM mentorados"
OWNERS = "SELECT count(DISTINCT user_id) FROM mentorados"
ADD_USER = "INSERT INTO users (clerk_id, name) VALUES ('user_without_profile', 'Dora')"


class Site(NamedTuple):
    """Two hosts and the proxy before them."""

    first: AppServer
    second: AppServer
    proxy: AppServer


@pytest.fixture
def site(url: str, redis: RedisServer, tmp_path: Path) -> Iterator[Site]:
    """Two hosts that share a database, a Redis, a secret and the development identity provider."""
    DevIdentityProvider(tmp_path / "identity")
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(host(tmp_path / name, url, redis)) for name in ("first", "second")
        )
        address = stack.enter_context(run_nginx(tmp_path, (first, second)))
        yield Site(first, second, replace(first, url=address))


@contextmanager
def host(folder: Path, url: str, redis: RedisServer) -> Iterator[AppServer]:
    folder.mkdir()
    (folder / "identity").symlink_to(folder.parent / "identity")
    with run_test_app(
        folder,
        DATABASE_URL=url,
        REDIS_URL=redis.url,
        SECRET_KEY="of-both-hosts",
        TRUSTED_PROXIES="1",
        SWEEP_INTERVAL_SECONDS="1",
    ) as app:
        yield app


def kill_host(app: AppServer) -> None:
    """Kill all processes of the host."""
    master = psutil.Process(app.process.pid)
    for process in (master, *master.children(recursive=True)):
        process.kill()


def request_via(proxy: AppServer, user: DevUser, *request: str) -> requests.Response:
    """Send the request, and again if the host was killed between head and body of the answer."""
    try:
        return request_as(proxy, user, *request)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return request_as(proxy, user, *request)


def status_of(app: AppServer, user: DevUser) -> object:
    return request_as(app, user, "/api/auth/me", "GET").json()["status"]


def test_killed_host_affects_no_request_and_the_sweep_continues(
    site: Site, url: str, expire_lease: Callable[[], None]
) -> None:
    def sign_in_and_read(user: DevUser) -> list[requests.Response]:
        answers = [
            request_via(site.proxy, user, "/dashboard", "GET"),
            request_via(site.proxy, user),
        ]
        if user == KILLING_USER:
            kill_host(site.first)
        return answers + [request_via(site.proxy, user, "/api/auth/me", "GET") for _ in range(3)]

    answers = list(chain.from_iterable(run_with_few_threads(sign_in_and_read, USERS)))
    profiles, owners = count(url, PROFILES), count(url, OWNERS)
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USER)
    expire_lease()  # the killed host may have owned the running sweep

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert max(a.elapsed.total_seconds() for a in answers) < MAX_ANSWER_SECONDS
    assert profiles == owners == len(USERS)
    assert eventually(lambda: count(url, PROFILES) == len(USERS) + 1, seconds=40)


def test_change_by_one_host_applies_at_once_in_the_other(site: Site) -> None:
    me = request_as(site.second, ALICE, "/api/auth/me", "GET").json()

    for change in ("block", "allow"):
        assert request_as(site.first, ADMIN, f"/api/admin/users/{me['user']['id']}/{change}").ok
        expected = {"block": "user_blocked", "allow": "ready"}[change]
        assert status_of(site.second, ALICE) == status_of(site.proxy, ALICE) == expected


def test_proxy_overwrites_forwarded_headers_and_refuses_large_bodies(site: Site) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "Accept": "text/html"}

    redirect = requests.get(
        f"{site.proxy.url}/dashboard", headers=forged, timeout=5, allow_redirects=False
    )
    large = requests.put(f"{site.proxy.url}/api/mentorados/me", data=b"a" * 65_537, timeout=5)

    assert redirect.headers["Location"].startswith(f"{site.proxy.url}/local-clerk/")
    assert (large.status_code, large.json()["code"]) == (413, "payload_too_large")
