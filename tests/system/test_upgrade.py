"""gunicorn's upgrade in place (SIGUSR2): the new server takes over, and nothing fails meanwhile."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
import requests

from dev.clients import request_as
from dev.servers import (
    PROJECT,
    UNLIMITED,
    Served,
    child_environment,
    eventually,
    free_port,
    has_ended,
    stop,
    wait_for,
)
from tests.support.users import BOB
from web.startup import refuse_busy_ports

COMMANDS = ([str(Path(sys.executable).with_name("gunicorn"))], [sys.executable, "-m", "gunicorn"])
COUNTED = re.compile(r'^http_requests_total\{.*route="/api/auth/me".*\} (\S+)$', re.MULTILINE)
OTHERS_PID = str(os.getppid())
ANSWERS = 20


@pytest.fixture
def command() -> list[str]:
    """How an operator starts the server."""
    return COMMANDS[0]


@pytest.fixture
def app(tmp_path: Path, command: list[str]) -> Iterator[Served]:
    """The app on its embedded database."""
    bind = f"127.0.0.1:{free_port()}"
    settings = {"INSTANCE_PATH": str(tmp_path), "BIND": bind, "SCHEDULER": "off", **UNLIMITED}
    log = tmp_path / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "wsgi:app"],
            cwd=PROJECT,
            env=child_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://{bind}/readyz")
        yield Served(f"http://{bind}", process, log, tmp_path)
    finally:
        stop(process)


@contextmanager
def upgraded(app: Served) -> Iterator[psutil.Process]:
    """The new server, as soon as its worker serves; stopped at the end."""
    old = psutil.Process(app.process.pid)
    before = set(old.children())
    old.send_signal(signal.SIGUSR2)
    assert eventually(lambda: len(set(old.children()) - before) == 1)
    [new] = set(old.children()) - before
    try:
        assert eventually(lambda: app.log.read_text().count("Neon Dashboard  ") == 2, seconds=20)
        assert eventually(lambda: any(child.cmdline() for child in new.children()))
        yield new
    finally:
        if not has_ended(new):
            new.terminate()
            assert eventually(lambda: has_ended(new), seconds=20)


class Visitor(Thread):
    """Bob, who asks again and again until he is told to stop; the statuses of his answers."""

    def __init__(self, app: Served) -> None:
        super().__init__()
        self.app = app
        self.statuses: list[int] = []
        self.is_over = Event()

    def run(self) -> None:
        while not self.is_over.is_set():
            self.statuses.append(request_as(self.app, BOB, "/api/auth/me", "GET").status_code)

    def has_been_answered(self) -> bool:
        """Whether he has got that many answers more, from now on."""
        wanted = len(self.statuses) + ANSWERS
        return eventually(lambda: len(self.statuses) >= wanted, seconds=20)

    def stop(self) -> None:
        self.is_over.set()
        self.join(timeout=30)


@pytest.fixture
def visitor(app: Served) -> Iterator[Visitor]:
    visitor = Visitor(app)
    visitor.start()
    yield visitor
    visitor.stop()


def counted(app: Served) -> float:
    """How often Prometheus is told that Bob has asked."""
    text = requests.get(f"{app.url}/metrics", timeout=5, headers={"Connection": "close"}).text
    return sum(float(number) for number in COUNTED.findall(text))


def database_of(app: Served) -> psutil.Process:
    pid_file = app.instance / "postgres" / "postmaster.pid"
    return psutil.Process(int(pid_file.read_text().split()[0]))


def test_new_server_takes_over_without_a_failed_request(app: Served, visitor: Visitor) -> None:
    database = database_of(app)
    assert visitor.has_been_answered()

    with upgraded(app):
        before = counted(app)
        app.process.terminate()
        exit_code = app.process.wait(timeout=20)
        assert visitor.has_been_answered()
        after = counted(app)
        is_same_database = database_of(app) == database
        visitor.stop()
    is_stopped = eventually(lambda: has_ended(database))

    assert (exit_code, is_same_database, is_stopped) == (0, True, True)
    assert set(visitor.statuses) == {200}
    assert after >= before + ANSWERS


@pytest.mark.parametrize("command", COMMANDS[1:], ids=["as a module"])
def test_new_server_that_is_given_up_leaves_the_old_one_as_it_was(app: Served) -> None:
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
        ({"GUNICORN_PID": OTHERS_PID, "GUNICORN_FD": "5"}, False),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, False),
        ({"LISTEN_PID": OTHERS_PID, "LISTEN_FDS": "1"}, True),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}, True),
    ],
    ids=["fresh", "upgrade", "from systemd", "sockets for another process", "no sockets"],
)
def test_busy_port_is_refused_unless_the_socket_was_handed_over(
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
