"""Whoever is being served when a worker or a whole server is told to stop still gets an answer."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from dev.clients import concurrently, is_served, new_users, queue_length, request_as
from dev.databases import count, locking
from dev.fake_clerk import DevUser
from dev.servers import Served, eventually, served, workers

PEOPLE = new_users(100)
MESSENGER = PEOPLE[0]
EARLY, LATE = PEOPLE[:4], PEOPLE[4:8]
PATIENCE_SECONDS = 10  # gunicorn.conf.py's graceful_timeout, after which it is cut off
PROFILES = "SELECT count(user_id) FROM mentorados"


@pytest.fixture
def second_app(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Another server on the same database."""
    with served(tmp_path_factory.mktemp("second"), DATABASE_URL=url) as app:
        yield app


def test_worker_that_is_told_to_stop_answers_everybody_in_a_stampede_first(
    app: Served, url: str
) -> None:
    def sign_in(person: DevUser) -> requests.Response:
        answer = request_as(app, person)
        if person == MESSENGER:
            workers(app)[0].terminate()
        return answer

    answers = concurrently(sign_in, PEOPLE)

    assert [answer.text for answer in answers if not is_served(answer)] == []
    assert count(url, PROFILES) == len(PEOPLE)


def test_server_that_is_told_to_stop_waits_for_no_silent_client(second_app: Served) -> None:
    parts = urlsplit(second_app.url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 0))):
        assert eventually(lambda: len(lines_of(workers(second_app)[0])) > 1)

        second_app.process.terminate()

        assert second_app.process.wait(timeout=PATIENCE_SECONDS - 1) == 0


def lines_of(process: psutil.Process) -> list[object]:
    """Where it listens, and to whom it is connected."""
    return list(process.net_connections(kind="inet"))


def test_server_that_is_told_to_stop_finishes_and_the_other_goes_on(
    app: Served, second_app: Served, url: str, turnstile: str
) -> None:
    with ThreadPoolExecutor(1) as pool, locking(url, turnstile):
        early = pool.submit(concurrently, partial(request_as, app), EARLY)
        assert eventually(lambda: queue_length(url) == len(EARLY))
        app.process.terminate()
        assert eventually(lambda: not psutil.Process(app.process.pid).net_connections())
    late = concurrently(partial(request_as, second_app), LATE)

    assert sum(map(is_served, early.result() + late)) == len(EARLY + LATE)
    assert app.process.wait(timeout=20) == 0
    assert count(url, PROFILES) == len(EARLY + LATE)
