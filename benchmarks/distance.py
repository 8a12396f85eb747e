"""Measure requests with a distant database, and answers while connections open slowly.

    python -m benchmarks.distance

Prints the tables of docs/performance.md. A proxy on this machine delays every message to and from
the database, without TLS and password. The exit code is 1 if an answer was neither a success nor a
503 with a code.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import requests
from flask_migrate import upgrade

from app import create_app
from benchmarks.databases import network_proxy
from benchmarks.servers import AppServer, is_retryable, is_served, provider_of, request_as, run_app
from core.config import Config
from core.database import db
from dev import postgres
from dev.fake_clerk import DevUser

ROUND_TRIPS_MS = (0, 20, 40, 70, 120, 200)
CONNECT_SECONDS = (0.8, 2.0, 5.0)
LOGINS = 15
LONGEST_WAIT_SECONDS = 15


def main() -> int:
    """Measure both tables; the exit code is 1 if any answer was wrong."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        url = postgres.start(base)
        try:
            app = create_app(Config(instance_path=base / "setup", database_url=url))
            with app.app_context():
                upgrade()
                db.engine.dispose()
            return 0 if _measure_tables(base, url) else 1
        finally:
            postgres.release(base)


def _measure_tables(base: Path, url: str) -> bool:
    print("| round trip | first login of a fresh worker | later first logins, median |", end="")
    print(" `GET /dashboard`, warm | `GET /readyz` |\n|---|---|---|---|---|")
    distances = [_measure_distance(base / f"far-{ms}", url, ms) for ms in ROUND_TRIPS_MS]
    print(
        "\n| connecting takes | answers until then | longest of them | first login served after |"
    )
    print("|---|---|---|---|")
    connects = [_measure_connecting(base / f"slow-{s}", url, s) for s in CONNECT_SECONDS]
    return all(distances + connects)


def _measure_distance(folder: Path, url: str, milliseconds: int) -> bool:
    with _app_behind_proxy(folder, url, milliseconds / 1000, 0, "/readyz") as app:
        users = _new_users(f"far{milliseconds}")
        answers = [_timed(partial(request_as, app, user)) for user in users]
        (first, *later) = [seconds for _, seconds in answers]
        pages = [_timed(lambda: request_as(app, users[0], "/dashboard", "GET")) for _ in range(3)]
        ready = _timed(lambda: requests.get(f"{app.url}/readyz", timeout=10))
    cells = (first, statistics.median(later), pages[-1][1], ready[1])
    print(f"| {milliseconds} ms | {' | '.join(f'{c * 1000:.0f} ms' for c in cells)} |", flush=True)
    return all(is_served(answer) for answer, _ in [*answers, *pages, ready])


def _measure_connecting(folder: Path, url: str, connect_seconds: float) -> bool:
    refused: list[float] = []
    have_codes = True
    with _app_behind_proxy(folder, url, 0, connect_seconds, "/healthz") as app:
        started = time.monotonic()
        for user in _new_users(f"slow{connect_seconds}", LONGEST_WAIT_SECONDS * 10):
            answer, seconds = _timed(partial(request_as, app, user))
            if is_served(answer):
                break
            refused.append(seconds)
            have_codes = have_codes and is_retryable(answer)
        elapsed = time.monotonic() - started
    longest = f"{max(refused):.2f} s" if refused else "–"
    print(
        f"| {connect_seconds} s | {len(refused)} × 503 | {longest} | {elapsed:.1f} s |", flush=True
    )
    return have_codes and is_served(answer)


@contextmanager
def _app_behind_proxy(
    folder: Path, url: str, round_trip_seconds: float, connect_seconds: float, awaited: str
) -> Iterator[AppServer]:
    folder.mkdir()
    with network_proxy(url) as network:
        network.round_trip_seconds = round_trip_seconds
        network.connect_seconds = connect_seconds
        settings = {"DATABASE_URL": network.url, "SCHEDULER": "off"}
        with run_app(folder, awaited=awaited, **settings) as app:
            provider_of(folder)  # reads its key outside the measured time
            yield app


def _new_users(name: str, number: int = LOGINS) -> list[DevUser]:
    return [
        DevUser(f"user_{name}_{i}", f"Pessoa {i}", f"p{i}@{name}.example.com")
        for i in range(number)
    ]


def _timed(call: Callable[[], requests.Response]) -> tuple[requests.Response, float]:
    started = time.monotonic()
    return call(), time.monotonic() - started


if __name__ == "__main__":
    sys.exit(main())
