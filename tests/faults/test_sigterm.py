"""Requests in progress are answered when a worker or a server receives SIGTERM."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from benchmarks.databases import count, hold_locks
from benchmarks.servers import AppServer, eventually, is_served, request_as, workers
from dev.fake_clerk import DevUser
from tests.support.clients import concurrently, new_users, queue_length
from tests.support.servers import run_test_app

USERS = new_users(100)
STOPPING_USER = USERS[0]
EARLY, LATE = USERS[:4], USERS[4:8]
GRACEFUL_TIMEOUT_SECONDS = 10  # in gunicorn.conf.py
PROFILES = "SELECT count(user_id) FROM mentorados"


@pytest.fixture
def second_app(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """Another server on the same database."""
    with run_test_app(tmp_path_factory.mktemp("second"), DATABASE_URL=url) as app:
        yield app


def test_stopping_worker_answers_all_requests_in_progress(app: AppServer, url: str) -> None:
    def sign_in(user: DevUser) -> requests.Response:
        answer = request_as(app, user)
        if user == STOPPING_USER:
            workers(app)[0].terminate()
        return answer

    answers = concurrently(sign_in, USERS)

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert count(url, PROFILES) == len(USERS)


def test_stopping_server_does_not_wait_for_a_silent_client(second_app: AppServer) -> None:
    parts = urlsplit(second_app.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0))):
        assert eventually(lambda: len(connections_of(workers(second_app)[0])) > 1)

        second_app.process.terminate()

        assert second_app.process.wait(timeout=GRACEFUL_TIMEOUT_SECONDS - 1) == 0


def connections_of(process: psutil.Process) -> list[object]:
    """Return the listening and connected sockets of the process."""
    return list(process.net_connections(kind="inet"))


def test_stopping_server_answers_its_requests_while_another_serves_new_ones(
    app: AppServer, second_app: AppServer, url: str, barrier: str
) -> None:
    with ThreadPoolExecutor(1) as pool, hold_locks(url, barrier):
        early = pool.submit(concurrently, partial(request_as, app), EARLY)
        assert eventually(lambda: queue_length(url) == len(EARLY))
        app.process.terminate()
        assert eventually(lambda: not psutil.Process(app.process.pid).net_connections())
    late = concurrently(partial(request_as, second_app), LATE)

    assert sum(map(is_served, early.result() + late)) == len(EARLY + LATE)
    assert app.process.wait(timeout=20) == 0
    assert count(url, PROFILES) == len(EARLY + LATE)
