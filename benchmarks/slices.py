"""Slices of load on an installed app, to be alternated with slices on a yardstick.

An installation is two gunicorn processes of four threads, a database, perhaps a Redis, and a Clerk
that counts its calls. Redis is emptied before each slice, and the call budget is waited for.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
from redis import Redis

from auth.provider_calls import PRODUCTION
from benchmarks.clerk_stub import ClerkStub
from benchmarks.raw_client import (
    BASELINE_PATH,
    FLOOR_PATH,
    Answer,
    Run,
    request_bytes,
    send_all,
)
from benchmarks.servers import (
    PROJECT,
    AppServer,
    child_environment,
    free_port,
    run_app,
    start_postgres,
    start_redis,
    stop,
    wait_for,
    workers,
)

ENSURE, ME = "/api/auth/ensure", "/api/auth/me"
PROCESSES, THREADS = 2, 4
READERS, AT_A_TIME, STAMPEDE = 8, 16, 100  # clients at once
NAIVE = "benchmarks.naive_app:app"
LEAST_SHARE = 0.1  # of the processor time of a slice, for each process
Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Requests in a slice; logins that call Clerk are few, because of the budget of its calls."""

    reads: int = 2_000
    logins: int = 400
    calling_logins: int = 120


QUICK = Sizes(reads=200, logins=40, calling_logins=20)


@dataclass(frozen=True, slots=True)
class Slice:
    """A run, and how many of its answers were wrong."""

    run: Run
    wrong: int


@dataclass(frozen=True, slots=True)
class Installation:
    """A served app; each method measures a slice."""

    app: AppServer
    clerk: ClerkStub
    redis: Redis | None
    sizes: Sizes

    def bare(self, requests: int, clients: int) -> Slice:
        """Send requests to the bare view of the same server."""
        return self._measure([request_bytes("GET", f"{BASELINE_PATH}/")] * requests, clients, 200)

    def floor(self, *, with_call: bool) -> Slice:
        """Send the statements of first logins alone, perhaps after their calls to Clerk."""
        numbers = [next(self.clerk.numbers) for _ in range(self.sizes.logins)]
        query = "?call" if with_call else ""
        paths = [f"{FLOOR_PATH}/user_floor_{number}{query}" for number in numbers]
        return self._measure([request_bytes("POST", path) for path in paths], AT_A_TIME, 201)

    def warm(self) -> Slice:
        """Read one user's cached context again and again."""
        request = request_bytes("GET", ME, self.clerk.tokens(1, with_claims=True)[0])
        self.empty_redis()
        send_all(self.app.url, [request] * READERS * 10, READERS)  # every process and its cache
        return self._measure([request] * self.sizes.reads, READERS, 200)

    def logins(self, *, with_claims: bool) -> Slice:
        """Log new users in; without claims each needs exactly one call to Clerk."""
        number = self.sizes.logins if with_claims else self.sizes.calling_logins
        tokens = self.clerk.tokens(number, with_claims=with_claims)
        self.empty_redis()
        calls = self.clerk.calls()
        measured = self._measure([request_bytes("POST", ENSURE, t) for t in tokens], AT_A_TIME, 201)
        surplus = abs(self.clerk.calls() - calls - (0 if with_claims else number))
        if not with_claims:
            time.sleep(number / PROCESSES / PRODUCTION.per_second)  # the budget is refilled
        return Slice(measured.run, measured.wrong + surplus)

    def stampede(self) -> Slice:
        """Send the first requests of one user at once; exactly one must create the profile."""
        token = self.clerk.tokens(1, with_claims=True)[0]
        self.empty_redis()
        run = send_all(self.app.url, [request_bytes("POST", ENSURE, token)] * STAMPEDE, STAMPEDE)
        created = sum(answer.status == 201 for answer in run.answers)
        failed = sum(answer.status not in (200, 201) for answer in run.answers)
        return Slice(run, failed + abs(created - 1))

    def empty_redis(self) -> None:
        """Delete everything in Redis, if there is one."""
        if self.redis is not None:
            self.redis.flushall()

    def _measure(self, requests: Sequence[bytes], clients: int, expected: int) -> Slice:
        """Send the requests; every process must have served a part of them."""
        processes = workers(self.app)
        before = [_cpu_seconds(process) for process in processes]
        run = send_all(self.app.url, requests, clients)
        spent = [_cpu_seconds(p) - b for p, b in zip(processes, before, strict=True)]
        if min(spent) < LEAST_SHARE * sum(spent):
            print(f"UNEVEN: {[round(s, 2) for s in spent]} s of the processes", file=sys.stderr)
        return Slice(run, sum(not _is_good(answer, expected) for answer in run.answers))


@contextmanager
def install(
    folder: Path,
    clerk: ClerkStub,
    sizes: Sizes,
    *,
    with_redis: bool,
    target: str = "benchmarks.baseline_app:app",
    project: Path = PROJECT,
) -> Iterator[Installation]:
    """Serve the app of a checkout, with everything that it needs."""
    (folder / "redis").mkdir(parents=True)
    (folder / "database").mkdir()
    settings = {
        "WEB_CONCURRENCY": str(PROCESSES),
        "WEB_THREADS": str(THREADS),
        "SCHEDULER": "off",
        **clerk.settings,
    }
    with ExitStack() as stack:
        server = stack.enter_context(start_postgres(folder / "database"))
        redis = None
        if with_redis:
            store = stack.enter_context(start_redis(folder / "redis"))
            settings["REDIS_URL"] = store.url
            redis = stack.enter_context(Redis.from_url(store.url))
        settings["DATABASE_URL"] = server.url
        app = stack.enter_context(run_app(folder, target, project=str(project), **settings))
        yield Installation(app, clerk, redis, sizes)


@contextmanager
def install_naive(folder: Path, clerk: ClerkStub, sizes: Sizes) -> Iterator[Installation]:
    """Serve the naive app in as many processes and threads, on a database of its own."""
    folder.mkdir(parents=True)
    settings = folder / "gunicorn.py"
    settings.touch()  # instead of this project's gunicorn.conf.py
    bind = f"127.0.0.1:{free_port()}"
    with start_postgres(folder) as server, (folder / "gunicorn.log").open("wb") as log:
        environment = child_environment({**clerk.settings, "DATABASE_URL": server.url})
        create = "import benchmarks.naive_app as naive; naive.create_tables()"
        options = ["-w", str(PROCESSES), "--threads", str(THREADS), "-b", bind]
        subprocess.run(  # nosec B603 # fixed arguments, no shell
            [sys.executable, "-c", create], check=True, cwd=PROJECT, env=environment
        )
        process = subprocess.Popen(  # nosec B603
            [sys.executable, "-m", "gunicorn", "-c", str(settings), *options, NAIVE],
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(f"http://{bind}/healthz")
            app = AppServer(f"http://{bind}", process, folder / "gunicorn.log", folder)
            yield Installation(app, clerk, None, sizes)
        finally:
            stop(process)


def alternate(
    ours: Callable[[], Measured], yardstick: Callable[[], Measured], repetitions: int
) -> list[tuple[Measured, Measured]]:
    """Measure both in turns, ours last and first alternately; the first pair is not returned."""
    pairs = []
    for number in range(repetitions + 1):
        if number % 2:
            other = yardstick()
            pairs.append((ours(), other))
        else:
            own = ours()
            pairs.append((own, yardstick()))
    return pairs[1:]


def _is_good(answer: Answer, expected: int) -> bool:
    if answer.status != expected:
        return False
    return "mentorado" not in (body := json.loads(answer.body)) or bool(body["mentorado"])


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
