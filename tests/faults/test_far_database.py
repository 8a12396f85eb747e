"""Databases with a long round trip or a slow connect are served."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from benchmarks.databases import SimulatedNetwork, connect_to, hold_locks, network_proxy
from benchmarks.servers import eventually
from core.connection_pool import pool_of
from core.database import db
from dev.fake_clerk import DevUser
from tests.support.apps import create_app_on
from tests.support.stopwatch import stopwatch
from tests.support.users import ALICE, BOB
from web import health
from web.services import EXTENSION
from web.startup import connect_worker

ENSURE, DASHBOARD = "/api/auth/ensure", "/dashboard"
ROUND_TRIPS = [0.04, 0.07, 0.12, 0.2]  # seconds
END_SESSIONS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
WAIT_CODES = {"database_unavailable", "provisioning_unavailable"}


@pytest.fixture
def network(url: str) -> Iterator[SimulatedNetwork]:
    with network_proxy(url) as network:
        yield network


@pytest.fixture
def app(network: SimulatedNetwork, tmp_path: Path) -> Iterator[Flask]:
    """The app of one worker without a database connection."""
    with create_app_on(tmp_path, network.url) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def sign_in(app: Flask) -> Callable[[DevUser], TestResponse]:
    """Return a function that signs a user in with a new client."""
    sign = app.extensions[EXTENSION].dev_provider.token

    def sign_in(user: DevUser) -> TestResponse:
        headers = {"Authorization": f"Bearer {sign(user)}"}
        return app.test_client().post(ENSURE, headers=headers)

    return sign_in


SignIn = Callable[[DevUser], TestResponse]


def connect(app: Flask) -> None:
    """Connect as a starting worker does, and wait for the connection."""
    connect_worker(app)
    assert eventually(lambda: pool_of(db.engine).checkedin() == 1)


def is_retryable_error(answer: TestResponse) -> bool:
    """Return whether the answer is a 503 with a code that clients retry."""
    assert answer.json is not None
    return answer.status_code == 503 and answer.json["code"] in WAIT_CODES


@pytest.mark.parametrize("round_trip_seconds", ROUND_TRIPS)
def test_logins_succeed_with_a_far_database(
    app: Flask,
    client: FlaskClient,
    network: SimulatedNetwork,
    sign_in: SignIn,
    round_trip_seconds: float,
) -> None:
    network.round_trip_seconds = round_trip_seconds
    connect(app)
    client.set_cookie("__session", app.extensions[EXTENSION].dev_provider.token(ALICE))

    assert eventually(lambda: sign_in(BOB).status_code == 201)
    assert eventually(lambda: sign_in(BOB).status_code == 200)
    assert eventually(lambda: client.get(DASHBOARD).status_code == 200)
    assert eventually(lambda: (client.get("/readyz").json or {})["checks"]["database"] == "ok")
    assert network.accepted <= 3  # the connections are kept; one may be lost on a busy machine


@pytest.mark.real_time_limits
@pytest.mark.parametrize("round_trip_seconds", [0.0, 0.2])
def test_held_lock_is_a_coded_503_at_any_distance(
    app: Flask, network: SimulatedNetwork, url: str, sign_in: SignIn, round_trip_seconds: float
) -> None:
    with connect_to(url) as other:
        other.exec_driver_sql(f"INSERT INTO users (clerk_id) VALUES ('{BOB.clerk_id}')")
    network.round_trip_seconds = round_trip_seconds
    connect(app)

    with hold_locks(url, "SELECT 1 FROM users FOR UPDATE"):
        refused = sign_in(BOB)

    assert is_retryable_error(refused)
    assert eventually(lambda: sign_in(BOB).status_code == 201)


@pytest.mark.real_time_limits
def test_slow_connect_fails_the_request_at_once_and_serves_the_next(
    app: Flask, client: FlaskClient, network: SimulatedNetwork, sign_in: SignIn
) -> None:
    network.is_slow = True
    connect_worker(app)

    refused, page = sign_in(BOB), client.get("/readyz")
    network.is_slow = False

    assert is_retryable_error(refused)
    assert page.json is not None
    assert (page.status_code, page.json["checks"]["database"]) == (503, "connecting")
    assert eventually(lambda: sign_in(BOB).status_code == 201, seconds=4)
    assert client.get("/readyz").status_code == 200


def test_command_waits_longer_for_a_connection_than_a_request(
    app: Flask, network: SimulatedNetwork
) -> None:
    network.connect_seconds = 1.5

    assert health.database() == "ok"


@dataclass(frozen=True, slots=True)
class Visit:
    """What two visitors experience while a connection is being opened; times in seconds."""

    first_answer: str
    seconds_after_connection: float
    longest_request: float
    second_status: int


def visit(app: Flask, network: SimulatedNetwork, connect_seconds: float) -> Visit:
    """Visit as a new user whose preparing page retries, then as a second one."""
    pool, sign = pool_of(db.engine), app.extensions[EXTENSION].dev_provider.token
    answers_before, durations = pool.server.answers, []
    network.connect_seconds = connect_seconds
    client, second = app.test_client(), app.test_client()
    client.set_cookie("__session", sign(BOB))
    second.set_cookie("__session", sign(ALICE))

    def send(path: str, method: str = "GET") -> TestResponse:
        with stopwatch() as watch:
            answer = client.open(path, method=method, headers={"Origin": "http://localhost"})
        durations.append(watch.seconds)
        return answer

    with ThreadPoolExecutor(1) as threads:
        opened = threads.submit(time_when, lambda: pool.server.answers > answers_before)
        page = answer = send(DASHBOARD)
        for attempt in range(3):  # the pauses of static/js/preparing.js
            if answer.status_code < 300:
                break
            pause = max(int(answer.headers["Retry-After"]), 2**attempt)
            time.sleep(pause * random.uniform(1, 1.25))
            answer = send(ENSURE, "POST")
        dashboard = send(DASHBOARD)
        seconds = time.monotonic() - opened.result()
    assert (answer.status_code, dashboard.status_code) == (201, 200)
    heading = "Preparando seu perfil" if "data-preparing" in page.text else page.status
    return Visit(heading, seconds, max(durations), second.get(DASHBOARD).status_code)


def time_when(condition: Callable[[], bool]) -> float:
    assert eventually(condition, seconds=20)
    return time.monotonic()


def visit_new_process(url: str, folder: Path, connect_seconds: float) -> Visit:
    """Visit a process without a connection."""
    with network_proxy(url) as network, create_app_on(folder, network.url) as app:
        network.round_trip_seconds = 0.12
        return visit(app, network, connect_seconds)


def visit_after_suspension(url: str, folder: Path, connect_seconds: float) -> Visit:
    """Visit a process whose connections the database has closed, as a suspended one does."""
    with network_proxy(url) as network, create_app_on(folder, network.url) as app:
        network.round_trip_seconds = 0.12
        connect(app)
        with connect_to(url) as other:
            other.exec_driver_sql(END_SESSIONS)
        return visit(app, network, connect_seconds)


@pytest.mark.real_time_limits
def test_visitor_is_in_soon_after_a_slow_connection_is_open_and_holds_no_thread(
    copy_database: Callable[[str], str], tmp_path: Path
) -> None:
    cases: list[tuple[Callable[[str, Path, float], Visit], float]] = [
        (visit_new_process, 0.8),
        (visit_after_suspension, 2.0),
        (visit_new_process, 5.0),
    ]

    def run(number: int) -> Visit:
        visiting, connect_seconds = cases[number]
        url = copy_database(f"connecting_{tmp_path.name}_{number}")
        (folder := tmp_path / str(number)).mkdir()
        return visiting(url, folder, connect_seconds)

    with ThreadPoolExecutor(len(cases)) as threads:
        visits = list(threads.map(run, range(len(cases))))

    assert [each.first_answer for each in visits] == ["Preparando seu perfil"] * len(cases)
    assert [each.second_status for each in visits] == [200] * len(cases)
    assert max(each.seconds_after_connection for each in visits) < 2
    assert max(each.longest_request for each in visits) < 2


@pytest.mark.real_time_limits
def test_silent_database_after_a_connection_is_down(
    app: Flask, client: FlaskClient, network: SimulatedNetwork
) -> None:
    connect(app)
    network.is_silent = True

    answer = client.get("/readyz").json

    assert answer is not None
    assert answer["checks"]["database"] == "down"


def test_login_is_retried_after_a_lost_network_path(
    app: Flask, network: SimulatedNetwork, sign_in: SignIn
) -> None:
    connect(app)

    with ThreadPoolExecutor(1) as threads:
        network.is_silent = True
        login = threads.submit(sign_in, BOB)
        assert eventually(lambda: network.lost > 0)
        network.is_silent = False

        assert login.result(timeout=10).status_code == 201


@pytest.mark.parametrize(("query", "idle_seconds"), [("", 30), ("?keepalives_idle=75", 75)])
def test_connection_uses_tcp_keepalive(
    network: SimulatedNetwork, tmp_path: Path, query: str, idle_seconds: int
) -> None:
    with create_app_on(tmp_path, network.url + query), db.engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        with socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM) as tcp_socket:
            is_kept = tcp_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = tcp_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    assert (bool(is_kept), idle) == (True, idle_seconds)
