"""A worker that is killed in the middle of a first login leaves no half profile and no second."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from dev.clients import queue_length, request_as
from dev.commit_proxy import Relay
from dev.databases import count, locking
from dev.servers import Served, eventually, served, workers
from tests.support.users import BOB

PROFILES = "SELECT count(*) FROM mentorados"
ROWS = "SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM mentorados)"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def app(relay: Relay, tmp_path: Path) -> Iterator[Served]:
    """The app in one worker process, without the sweep that would mend what it leaves."""
    with served(tmp_path, DATABASE_URL=relay.url, SCHEDULER="off") as app:
        yield app


@pytest.fixture
def worker(app: Served) -> psutil.Process:
    """Its one worker; gunicorn starts another as soon as it is gone."""
    [worker] = workers(app)
    return worker


def lose(app: Served, worker: psutil.Process, until: Callable[[], bool]) -> object:
    """Kill the worker as soon as the claim holds; what Bob's client is left with."""
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(request_as, app, BOB)
        assert eventually(until)
        worker.kill()
        return lost.exception()


def test_worker_killed_between_user_and_profile_leaves_nothing_and_the_next_makes_both(
    app: Served, worker: psutil.Process, url: str, turnstile: str
) -> None:
    with locking(url, turnstile):
        lost = lose(app, worker, until=lambda: queue_length(url) == 1)
    left = eventually(lambda: count(url, CONNECTIONS) == 0) and count(url, ROWS)

    answer = request_as(app, BOB)

    assert (type(lost), left, answer.status_code) == (requests.ConnectionError, 0, 201)
    assert count(url, PROFILES) == count(url, CREATIONS) == 1


def test_profile_of_a_worker_killed_before_it_answered_is_found_and_not_made_again(
    app: Served, worker: psutil.Process, url: str, relay: Relay
) -> None:
    relay.withholds.set()
    lost = lose(app, worker, until=relay.has_withheld.is_set)
    relay.withholds.clear()

    answer = request_as(app, BOB)

    assert (type(lost), answer.json()["outcome"]) == (requests.ConnectionError, "existing")
    assert count(url, PROFILES) == count(url, CREATIONS) == 1
