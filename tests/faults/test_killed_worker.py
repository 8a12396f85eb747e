"""A worker that is killed during a first login leaves no partial and no second profile."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from benchmarks.databases import SimulatedNetwork, count, hold_locks
from benchmarks.servers import AppServer, eventually, request_as, workers
from tests.support.clients import queue_length
from tests.support.servers import run_test_app
from tests.support.users import BOB

PROFILES = "SELECT count(*) FROM mentorados"
ROWS = "SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM mentorados)"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
CONNECTIONS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def app(relay: SimulatedNetwork, tmp_path: Path) -> Iterator[AppServer]:
    """The app in one worker process, without a sweep that would repair the rows."""
    with run_test_app(tmp_path, DATABASE_URL=relay.url, SCHEDULER="off") as app:
        yield app


@pytest.fixture
def worker(app: AppServer) -> psutil.Process:
    """The worker process; gunicorn replaces it after its end."""
    [worker] = workers(app)
    return worker


def kill_during_login(app: AppServer, worker: psutil.Process, until: Callable[[], bool]) -> object:
    """Sign Bob in, kill the worker once the condition holds, and return the client's error."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(request_as, app, BOB)
        assert eventually(until)
        worker.kill()
        return answer.exception()


def test_worker_killed_between_user_and_profile_leaves_no_rows(
    app: AppServer, worker: psutil.Process, url: str, barrier: str
) -> None:
    with hold_locks(url, barrier):
        error = kill_during_login(app, worker, until=lambda: queue_length(url) == 1)
    remaining = eventually(lambda: count(url, CONNECTIONS) == 0) and count(url, ROWS)

    answer = request_as(app, BOB)

    assert (type(error), remaining, answer.status_code) == (requests.ConnectionError, 0, 201)
    assert count(url, PROFILES) == count(url, CREATIONS) == 1


def test_profile_of_a_worker_killed_before_its_answer_is_returned(
    app: AppServer, worker: psutil.Process, url: str, relay: SimulatedNetwork
) -> None:
    relay.withholds.set()
    error = kill_during_login(app, worker, until=relay.has_withheld.is_set)
    relay.withholds.clear()

    answer = request_as(app, BOB)

    assert (type(error), answer.json()["outcome"]) == (requests.ConnectionError, "existing")
    assert count(url, PROFILES) == count(url, CREATIONS) == 1
