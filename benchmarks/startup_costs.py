"""What the app costs apart from its speed: trips to the database, cold start, memory, processes."""

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench_app import DASHBOARD, ENSURE, ME, Ground, ground
from benchmarks.raw_client import ask_all, question
from dev.commit_proxy import relayed
from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import served, start_postgres, start_redis, workers

MEGABYTE = 1024 * 1024
READS, READERS, LOGINS = 2_500, 16, 600
OVERVIEW = "/api/mentorados/me/overview"
# A request, and how its person stands before: unknown, known, or just seen.
KINDS = (
    ("first", "POST", ENSURE),
    ("first", "GET", DASHBOARD),
    ("known", "POST", ENSURE),
    ("warm", "GET", ME),
    ("warm", "GET", OVERVIEW),
    ("warm", "GET", DASHBOARD),
)


def trips(folder: Path) -> Iterator[str]:
    """Round trips and statements of each kind of request, counted in what the server answers."""
    with (
        start_postgres(folder) as server,
        relayed(server.url) as relay,
        served(folder, DATABASE_URL=relay.url, SCHEDULER="off") as app,
    ):
        provider = DevIdentityProvider(folder / "identity")
        for number, (state, method, path) in enumerate(KINDS):
            token = provider.token(DevUser(f"user_{number}", "Ana Silva", f"a{number}@example.com"))
            if state != "first":
                ask_all(app.url, [question("POST", ENSURE, token)], 1)
            if state == "warm":
                ask_all(app.url, [question(method, path, token)], 1)
            relay.tally.clear()
            ask_all(app.url, [question(method, path, token)], 1)
            tally = relay.tally
            yield f"| {state} `{method} {path}` | {tally.round_trips} | {tally.statements} |"


def cold_start(folder: Path, repetitions: int) -> str:
    """From the command to the first answer of /readyz, with a database that is there already."""
    seconds, megabytes = [], []
    with start_postgres(folder) as server:
        for _ in range(repetitions + 1):  # the first creates the tables
            started = time.perf_counter()
            with served(folder, DATABASE_URL=server.url) as app:
                seconds.append(time.perf_counter() - started)
                [worker] = workers(app)
                ask_all(app.url, [question("GET", "/healthz")] * 200, 8)
                megabytes.append(worker.memory_full_info().uss / MEGABYTE)
    start, memory = statistics.median(seconds[1:]), statistics.median(megabytes[1:])
    return f"cold start {start:.1f} s, {memory:.0f} MB that a process shares with nobody"


def throughput(folder: Path, repetitions: int) -> Iterator[str]:
    """Answers a second of one and of two processes, without and with Redis."""
    folder.mkdir()
    with start_redis(folder) as store:
        for processes in ("1", "2"):
            for redis in ("", store.url):
                place = folder / f"{processes}-{bool(redis)}"
                with ground(place, WEB_CONCURRENCY=processes, REDIS_URL=redis) as found:
                    reads, logins = _rates(found, repetitions)
                kind = "Redis" if redis else "cache in the process"
                yield f"| {processes} × gunicorn, {kind} | {reads}/s | {logins}/s |"


def _rates(found: Ground, repetitions: int) -> tuple[int, int]:
    """Warm reads and first logins a second, medians."""
    [token] = found.newcomers(1)
    found.ask("POST", ENSURE, [token], 1)
    reads, logins = [], []
    for _ in range(repetitions):
        reads.append(found.ask("GET", ME, [token] * READS, READERS).per_second)
        logins.append(found.ask("POST", ENSURE, found.newcomers(LOGINS), READERS).per_second)
    return round(statistics.median(reads)), round(statistics.median(logins))
