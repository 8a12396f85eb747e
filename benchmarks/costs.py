"""Measure the processor time, Redis commands and memory of requests and sweeps for docs/scaling.md.

It counts the processor time of the app and of PostgreSQL instead of elapsed time: that hardly
depends on other load of the machine, and decides how many processors an installation needs.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import redis
import requests
from sqlalchemy import text

from benchmarks.databases import connect_to
from benchmarks.servers import PROJECT, AppServer, child_environment, run_app, start_redis, workers
from dev import postgres as embedded
from dev.fake_clerk import DevIdentityProvider, DevUser

READS = 2_000
NEW_USERS = 1_000
SWEPT_USERS = 200_000
MEGABYTE = 1024 * 1024
INSERT_USERS = text("""
    INSERT INTO users (clerk_id, identity_completed_at)
    SELECT 'user_' || i, now() FROM generate_series(1, :users) AS i
""")


@dataclass(slots=True)
class Cost:
    """Processor seconds of the app and of PostgreSQL, and the number of Redis commands."""

    app: float = 0.0
    postgres: float = 0.0
    redis: int = 0


def main() -> int:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with start_redis(path) as store:
            print(f"{'one':<42}{'app':>10}{'PostgreSQL':>12}{'Redis':>8}")
            for shared in (False, True):
                _measure_requests(path / f"requests{shared}", store.url if shared else None)
        _measure_sweep(path / "sweep")
    return 0


def _measure_requests(folder: Path, redis_url: str | None) -> None:
    folder.mkdir()
    settings = {"REDIS_URL": redis_url} if redis_url else {}
    kind = "Redis" if redis_url else "cache in the process"
    with run_app(folder, SCHEDULER="off", **settings) as app:
        provider = DevIdentityProvider(folder / "identity")
        users = [
            DevUser(f"user_new_{i}", f"Pessoa {i}", f"p{i}@example.com") for i in range(NEW_USERS)
        ]
        tokens = [provider.token(user) for user in users]
        with requests.Session() as client:
            path = f"{app.url}/api/auth/ensure"
            _send_all(client, "POST", path, tokens[:50])  # warm
            log_in = partial(_send_all, client, "POST", path, tokens[50:])
            _print_cost(f"first login ({kind})", app, redis_url, log_in, NEW_USERS - 50)
            _print_cost(
                f"GET /api/auth/me ({kind})",
                app,
                redis_url,
                partial(_send_all, client, "GET", f"{app.url}/api/auth/me", tokens[:1] * READS),
                READS,
            )
            visit = partial(_send_all, client, "GET", f"{app.url}/dashboard", tokens * 2)
            _print_cost(f"GET /dashboard ({kind})", app, redis_url, visit, NEW_USERS * 2)
        [worker] = workers(app)
        megabytes = worker.memory_full_info().uss / MEGABYTE
        print(f"{'private memory of a process':<42}{megabytes:>7.0f} MB")
        if redis_url:
            each = _info(redis_url, "memory")["used_memory_dataset"] / NEW_USERS
            print(f"{'memory of Redis for each user':<42}{each / 1024:>7.1f} kB")


def _send_all(client: requests.Session, method: str, url: str, tokens: list[str]) -> None:
    for token in tokens:
        client.request(method, url, headers={"Authorization": f"Bearer {token}"}).raise_for_status()


def _print_cost(
    what: str, app: AppServer, redis_url: str | None, work: Callable[[], None], number: int
) -> None:
    with _measured_cost(app, redis_url) as cost:
        work()
    own, database = (seconds / number * 1000 for seconds in (cost.app, cost.postgres))
    print(f"{what:<42}{own:>7.2f} ms{database:>9.2f} ms{cost.redis / number:>8.1f}")


@contextmanager
def _measured_cost(app: AppServer, redis_url: str | None) -> Iterator[Cost]:
    """Yield a cost that is filled in at the end of the block."""
    before = _app_seconds(app), _postgres_seconds(app.instance), _redis_commands(redis_url)
    cost = Cost()
    yield cost
    cost.app = _app_seconds(app) - before[0]
    cost.postgres = _postgres_seconds(app.instance) - before[1]
    cost.redis = _redis_commands(redis_url) - before[2]


def _app_seconds(app: AppServer) -> float:
    return sum(_cpu_seconds(worker) for worker in workers(app))


def _postgres_seconds(instance: Path) -> float:
    pid = int((instance / "postgres" / "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    ended = postmaster.cpu_times()  # its children's times are those of closed connections
    return sum(
        (_cpu_seconds(process) for process in [postmaster, *postmaster.children()]),
        start=float(ended.children_user + ended.children_system),
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _redis_commands(url: str | None) -> int:
    return int(_info(url, "stats")["total_commands_processed"]) if url else 0


def _info(url: str, section: str) -> dict[str, Any]:
    with redis.Redis.from_url(url) as client:
        found: dict[str, Any] = client.info(section)
        return found


def _measure_sweep(folder: Path) -> None:
    """Measure the first sweep after an import of users, and `/metrics` afterwards."""
    folder.mkdir()
    with run_app(folder, SCHEDULER="off") as app:
        with connect_to(embedded.start(folder)) as connection:
            connection.execute(INSERT_USERS, {"users": SWEPT_USERS})
            connection.execute(text("ANALYZE"))
            before = _postgres_seconds(folder)
            own, elapsed = _sweep(folder)
            database = _postgres_seconds(folder) - before
            connection.execute(text("ANALYZE"))
        embedded.release(folder)
        started = time.perf_counter()
        requests.get(f"{app.url}/metrics", timeout=60).raise_for_status()
        metrics_seconds = time.perf_counter() - started
    each = 1000 / SWEPT_USERS
    print(f"{'user in a sweep':<42}{own * each:>7.3f} ms{database * each:>9.3f} ms")
    print(f"{'users a second in a sweep':<42}{SWEPT_USERS / elapsed:>10.0f}")
    print(f"{f'/metrics with {SWEPT_USERS} users, elapsed':<42}{metrics_seconds * 1000:>7.0f} ms")


def _sweep(folder: Path) -> tuple[float, float]:
    """Run `flask sweep`; returns processor and elapsed seconds without those of the start."""
    command = [sys.executable, "-m", "flask", "sweep", "--json"]
    environment = child_environment({"INSTANCE_PATH": str(folder)})
    costs = []
    for _ in range(2):  # the second run finds no users and measures the start alone
        before, started = os.times(), time.perf_counter()
        subprocess.run(  # nosec B603 # fixed arguments, no shell
            command, cwd=PROJECT, env=environment, check=True, capture_output=True
        )
        after = os.times()
        spent = after.children_user + after.children_system
        spent -= before.children_user + before.children_system
        costs.append((spent, time.perf_counter() - started))
    (all_cpu, all_time), (idle_cpu, idle_time) = costs
    return all_cpu - idle_cpu, all_time - idle_time


if __name__ == "__main__":
    sys.exit(main())
