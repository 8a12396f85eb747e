"""Two hosts behind one proxy: when one of them dies, nobody is answered wrongly or left out."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import requests

from dev.clients import ADMIN, few_at_a_time, is_served, new_users, request_as
from dev.databases import connect_to, count
from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import Redis, Served, eventually, served
from tests.support.nginx import proxied
from tests.support.users import ALICE

PEOPLE = new_users(60)
MESSENGER = PEOPLE[20]
BEYOND_ALL_PATIENCE_SECONDS = 5
PROFILES = "SELECT count(*) FROM mentorados"
OWNERS = "SELECT count(DISTINCT user_id) FROM mentorados"
FORGOTTEN = "INSERT INTO users (clerk_id, name) VALUES ('user_forgotten', 'Dora')"


class Site(NamedTuple):
    """Two hosts, and the way in for everybody."""

    first: Served
    second: Served
    door: Served


@pytest.fixture
def site(url: str, redis: Redis, tmp_path: Path) -> Iterator[Site]:
    """Hosts that share a database, a Redis, a secret and the stand-in for Clerk; nothing else."""
    DevIdentityProvider(tmp_path / "identity")
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(host(tmp_path / name, url, redis)) for name in ("first", "second")
        )
        address = stack.enter_context(proxied(tmp_path, (first, second)))
        yield Site(first, second, replace(first, url=address))


@contextmanager
def host(folder: Path, url: str, redis: Redis) -> Iterator[Served]:
    folder.mkdir()
    (folder / "identity").symlink_to(folder.parent / "identity")
    with served(
        folder,
        DATABASE_URL=url,
        REDIS_URL=redis.url,
        SECRET_KEY="of-both-hosts",
        TRUSTED_PROXIES="1",
        SWEEP_INTERVAL_SECONDS="1",
    ) as app:
        yield app


def cut_the_power(app: Served) -> None:
    """End all of its processes in the middle of whatever they do."""
    master = psutil.Process(app.process.pid)
    for process in (master, *master.children(recursive=True)):
        process.kill()


def ask_at(door: Served, person: DevUser, *what: str) -> requests.Response:
    """Ask, and once more where an answer broke off: its host died between head and body."""
    try:
        return request_as(door, person, *what)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return request_as(door, person, *what)


def status_of(app: Served, person: DevUser) -> object:
    return request_as(app, person, "/api/auth/me", "GET").json()["status"]


def test_host_that_dies_takes_nobody_with_it_and_the_sweep_goes_on(site: Site, url: str) -> None:
    def sign_in_and_read(person: DevUser) -> list[requests.Response]:
        answers = [ask_at(site.door, person, "/dashboard", "GET"), ask_at(site.door, person)]
        if person == MESSENGER:
            cut_the_power(site.first)
        return answers + [ask_at(site.door, person, "/api/auth/me", "GET") for _ in range(3)]

    answers = list(chain.from_iterable(few_at_a_time(sign_in_and_read, PEOPLE)))
    profiles, owners = count(url, PROFILES), count(url, OWNERS)
    with connect_to(url) as connection:
        connection.exec_driver_sql(FORGOTTEN)

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert max(a.elapsed.total_seconds() for a in answers) < BEYOND_ALL_PATIENCE_SECONDS
    assert profiles == owners == len(PEOPLE)
    assert eventually(lambda: count(url, PROFILES) == len(PEOPLE) + 1, seconds=40)


def test_change_by_one_host_holds_at_once_in_the_other(site: Site) -> None:
    me = request_as(site.second, ALICE, "/api/auth/me", "GET").json()

    for change in ("block", "allow"):
        assert request_as(site.first, ADMIN, f"/api/admin/users/{me['user']['id']}/{change}").ok
        told = {"block": "user_blocked", "allow": "ready"}[change]
        assert status_of(site.second, ALICE) == status_of(site.door, ALICE) == told


def test_proxy_speaks_for_the_client_and_refuses_what_is_too_large(site: Site) -> None:
    forged = {"X-Forwarded-Host": "evil.example", "Accept": "text/html"}

    led = requests.get(
        f"{site.door.url}/dashboard", headers=forged, timeout=5, allow_redirects=False
    )
    large = requests.put(f"{site.door.url}/api/mentorados/me", data=b"a" * 65_537, timeout=5)

    assert led.headers["Location"].startswith(f"{site.door.url}/local-clerk/")
    assert (large.status_code, large.json()["code"]) == (413, "payload_too_large")
