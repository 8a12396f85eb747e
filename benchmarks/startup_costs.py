"""Measure round trips to the database, cold start, memory, and throughput of processes."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench_app import DASHBOARD, ENSURE, ME, BenchApp, bench_app
from benchmarks.databases import network_proxy
from benchmarks.raw_client import request_bytes, send_all
from benchmarks.servers import run_app, start_postgres, start_redis, workers
from dev.fake_clerk import DevIdentityProvider, DevUser

MEGABYTE = 1024 * 1024
READS, READERS, LOGINS = 2_500, 16, 600
OVERVIEW = "/api/mentorados/me/overview"
# The state of the user before the request (new, known, cached context), and the request.
KINDS = (
    ("first", "POST", ENSURE),
    ("first", "GET", DASHBOARD),
    ("known", "POST", ENSURE),
    ("warm", "GET", ME),
    ("warm", "GET", OVERVIEW),
    ("warm", "GET", DASHBOARD),
)


def trips(folder: Path) -> Iterator[str]:
    """Yield the round trips and statements of each kind of request, counted in the protocol."""
    with (
        start_postgres(folder) as server,
        network_proxy(server.url) as relay,
        run_app(folder, DATABASE_URL=relay.url, SCHEDULER="off") as app,
    ):
        provider = DevIdentityProvider(folder / "identity")
        for number, (state, method, path) in enumerate(KINDS):
            token = provider.token(DevUser(f"user_{number}", "Ana Silva", f"a{number}@example.com"))
            if state != "first":
                send_all(app.url, [request_bytes("POST", ENSURE, token)], 1)
            if state == "warm":
                send_all(app.url, [request_bytes(method, path, token)], 1)
            relay.tally.clear()
            send_all(app.url, [request_bytes(method, path, token)], 1)
            tally = relay.tally
            yield f"| {state} `{method} {path}` | {tally.round_trips} | {tally.statements} |"


def cold_start(folder: Path, repetitions: int) -> str:
    """Measure the time from the command to the first answer of /readyz, on a migrated database."""
    seconds, megabytes = [], []
    with start_postgres(folder) as server:
        for _ in range(repetitions + 1):  # the first creates the tables
            started = time.perf_counter()
            with run_app(folder, DATABASE_URL=server.url) as app:
                seconds.append(time.perf_counter() - started)
                [worker] = workers(app)
                send_all(app.url, [request_bytes("GET", "/healthz")] * 200, 8)
                megabytes.append(worker.memory_full_info().uss / MEGABYTE)
    start, memory = statistics.median(seconds[1:]), statistics.median(megabytes[1:])
    return f"cold start {start:.1f} s, {memory:.0f} MB private memory of a process"


def throughput(folder: Path, repetitions: int) -> Iterator[str]:
    """Yield the answers per second of one and of two processes, without and with Redis."""
    folder.mkdir()
    with start_redis(folder) as store:
        for processes in ("1", "2"):
            for redis in ("", store.url):
                subfolder = folder / f"{processes}-{bool(redis)}"
                with bench_app(subfolder, WEB_CONCURRENCY=processes, REDIS_URL=redis) as app:
                    reads, logins = _rates(app, repetitions)
                kind = "Redis" if redis else "cache in the process"
                yield f"| {processes} × gunicorn, {kind} | {reads}/s | {logins}/s |"


def _rates(app: BenchApp, repetitions: int) -> tuple[int, int]:
    """Return the medians of warm reads and first logins per second."""
    [token] = app.new_tokens(1)
    app.send("POST", ENSURE, [token], 1)
    reads, logins = [], []
    for _ in range(repetitions):
        reads.append(app.send("GET", ME, [token] * READS, READERS).per_second)
        logins.append(app.send("POST", ENSURE, app.new_tokens(LOGINS), READERS).per_second)
    return round(statistics.median(reads)), round(statistics.median(logins))
