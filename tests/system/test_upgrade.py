"""Signals that load a new version (SIGUSR2, SIGHUP): no request fails meanwhile."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
import requests

from benchmarks.servers import (
    PROJECT,
    UNLIMITED,
    AppServer,
    child_environment,
    eventually,
    free_port,
    has_ended,
    request_as,
    stop,
    wait_for,
)
from scripts.image_check import project_context
from tests.support.users import BOB
from web.startup import refuse_busy_ports

COMMANDS = ([str(Path(sys.executable).with_name("gunicorn"))], [sys.executable, "-m", "gunicorn"])
REQUEST_COUNT = re.compile(r'^http_requests_total\{.*route="/api/auth/me".*\} (\S+)$', re.MULTILINE)
OTHER_PID = str(os.getppid())
ANSWERS = 20


@pytest.fixture
def command() -> list[str]:
    """The command that starts the server."""
    return COMMANDS[0]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the code, which a test can change."""
    folder = tmp_path / "project"
    for file in project_context():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / file, folder / file)
    return folder


@pytest.fixture
def app(tmp_path: Path, command: list[str], project: Path) -> Iterator[AppServer]:
    """The app on its embedded database."""
    bind = f"127.0.0.1:{free_port()}"
    settings = {"INSTANCE_PATH": str(tmp_path), "BIND": bind, "SCHEDULER": "off", **UNLIMITED}
    log = tmp_path / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "wsgi:app"],
            cwd=project,
            env=child_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://{bind}/readyz")
        yield AppServer(f"http://{bind}", process, log, tmp_path)
    finally:
        stop(process)


@contextmanager
def upgraded(app: AppServer) -> Iterator[psutil.Process]:
    """Yield the new server once its worker serves, and stop it at the end."""
    old = psutil.Process(app.process.pid)
    before = set(old.children())
    old.send_signal(signal.SIGUSR2)
    assert eventually(lambda: len(set(old.children()) - before) == 1)
    [new] = set(old.children()) - before
    try:
        assert eventually(lambda: app.log.read_text().count("Neon Dashboard  ") == 2, seconds=60)
        assert eventually(lambda: any(child.cmdline() for child in new.children()))
        yield new
    finally:
        if not has_ended(new):
            new.terminate()
            assert eventually(lambda: has_ended(new), seconds=60)


class RequestLoop(Thread):
    """Bob's requests in a loop, and the statuses of their answers."""

    def __init__(self, app: AppServer) -> None:
        super().__init__()
        self.app = app
        self.statuses: list[int] = []
        self.stopped = Event()

    def run(self) -> None:
        while not self.stopped.is_set():
            self.statuses.append(request_as(self.app, BOB, "/api/auth/me", "GET").status_code)

    def wait_for_answers(self) -> bool:
        """Wait for more answers; return whether they came within a minute."""
        target = len(self.statuses) + ANSWERS
        return eventually(lambda: len(self.statuses) >= target, seconds=60)

    def stop(self) -> None:
        self.stopped.set()
        self.join(timeout=30)


@pytest.fixture
def request_loop(app: AppServer) -> Iterator[RequestLoop]:
    request_loop = RequestLoop(app)
    request_loop.start()
    yield request_loop
    request_loop.stop()


def count_requests(app: AppServer) -> float:
    """Return the number of Bob's requests according to the metrics."""
    text = requests.get(f"{app.url}/metrics", timeout=5, headers={"Connection": "close"}).text
    return sum(float(number) for number in REQUEST_COUNT.findall(text))


def database_of(app: AppServer) -> psutil.Process:
    pid_file = app.instance / "postgres" / "postmaster.pid"
    return psutil.Process(int(pid_file.read_text().split()[0]))


def test_new_server_takes_over_without_a_failed_request(
    app: AppServer, request_loop: RequestLoop
) -> None:
    database = database_of(app)
    assert request_loop.wait_for_answers()

    with upgraded(app):
        before = count_requests(app)
        app.process.terminate()
        exit_code = app.process.wait(timeout=20)
        assert request_loop.wait_for_answers()
        after = count_requests(app)
        is_same_database = database_of(app) == database
        request_loop.stop()
    is_stopped = eventually(lambda: has_ended(database))

    assert (exit_code, is_same_database, is_stopped) == (0, True, True)
    assert set(request_loop.statuses) == {200}
    assert after >= before + ANSWERS


def has_redis_state(app: AppServer, state: str) -> bool:
    answer = requests.get(f"{app.url}/readyz", timeout=20, headers={"Connection": "close"})
    return bool(answer.json()["checks"]["redis"] == state)


def test_reload_loads_changed_code_without_a_failed_request(
    app: AppServer, request_loop: RequestLoop, project: Path
) -> None:
    database, health = database_of(app), project / "web" / "health.py"
    assert request_loop.wait_for_answers()

    # The second time, the server is one that was started again.
    for old, new in (("not_configured", "changed"), ("changed", "changed_again")):
        health.write_text(health.read_text().replace(f'return "{old}"', f'return "{new}"'))
        app.process.send_signal(signal.SIGHUP)
        assert eventually(partial(has_redis_state, app, new), seconds=20)
        assert request_loop.wait_for_answers()
    request_loop.stop()

    assert set(request_loop.statuses) == {200}
    assert database_of(app) == database


@pytest.mark.parametrize("command", COMMANDS[1:], ids=["as a module"])
def test_stopped_new_server_leaves_the_old_one_running(app: AppServer) -> None:
    database = database_of(app)
    with upgraded(app) as new:
        new.terminate()
        assert eventually(lambda: has_ended(new))

    assert request_as(app, BOB).status_code == 201
    assert not has_ended(database)


@pytest.mark.parametrize(
    ("environ", "is_refused"),
    [
        ({}, True),
        ({"GUNICORN_PID": OTHER_PID, "GUNICORN_FD": "5"}, False),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, False),
        ({"LISTEN_PID": OTHER_PID, "LISTEN_FDS": "1"}, True),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}, True),
    ],
    ids=["fresh", "upgrade", "from systemd", "sockets for another process", "no sockets"],
)
def test_busy_port_is_refused_unless_the_socket_is_inherited(
    environ: dict[str, str], is_refused: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        try:
            refuse_busy_ports([other.getsockname()[:2]], environ)
        except SystemExit:
            refused = True
        else:
            refused = False

    assert refused is is_refused
