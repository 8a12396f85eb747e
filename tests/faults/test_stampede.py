"""A hundred devices of one new person at once, through two gunicorn processes."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import requests

from identity.local import LocalIdentityProvider, Person
from tests.cast import BOB
from tests.databases import count
from tests.serving import Served, served

DEVICES = 100


@pytest.fixture
def url(copy_database: Callable[[str], str], tmp_path: Path) -> str:
    """A database of the test's own."""
    return copy_database(f"stampede_{tmp_path.name}")


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Served]:
    """The app in two worker processes."""
    with served(tmp_path, DATABASE_URL=url, WEB_CONCURRENCY="2", WEB_THREADS="8") as app:
        yield app


def at_once(app: Served, person: Person, method: str, paths: list[str]) -> list[requests.Response]:
    """Ask for all these paths in the same moment, each over a connection of its own."""
    token = LocalIdentityProvider(app.instance / "identity").token(person)
    headers = {"Authorization": f"Bearer {token}"}
    start = Barrier(len(paths))

    def ask(path: str) -> requests.Response:
        start.wait(timeout=30)
        return requests.request(method, app.url + path, headers=headers, timeout=30)

    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(ask, paths))


def processes_that_ensured(app: Served) -> set[int]:
    lines = [json.loads(line) for line in app.log.read_text().splitlines() if line[:1] == "{"]
    return {line["pid"] for line in lines if line["event"] == "session_invalidated"}


def test_hundred_ensures_of_one_new_person_make_one_profile(app: Served, url: str) -> None:
    answers = at_once(app, BOB, "POST", ["/api/auth/ensure"] * DEVICES)

    bodies = [answer.json() for answer in answers]
    assert {answer.status_code for answer in answers} == {200, 201}
    assert len({body["mentorado"]["id"] for body in bodies}) == 1
    assert sum(body["created"] for body in bodies) == 1
    assert count(url, "SELECT count(*) FROM mentorados") == 1
    assert len(processes_that_ensured(app)) == 2


def test_nobody_in_a_mixed_stampede_sees_no_profile(app: Served, url: str) -> None:
    paths = ["/dashboard", "/api/auth/me", "/api/mentorados/me", "/api/mentorados/me/overview"]

    answers = at_once(app, BOB, "GET", paths * (DEVICES // len(paths)))

    assert {answer.status_code for answer in answers} == {200}
    assert count(url, "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'") == 1
