"""What does one of each cost? Processor time, statements and memory, for docs/scaling.md.

Processor time of our own process and of PostgreSQL's, not time on the clock: it hardly depends on
who else uses the machine, and it is what has to be bought.
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

from dev import postgres as embedded
from dev.databases import connect_to
from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import PROJECT, Served, child_environment, served, start_redis, workers

READS = 2_000
NEWCOMERS = 1_000
CROWD = 200_000
MEGABYTE = 1024 * 1024
INSERT_CROWD = text("""
    INSERT INTO users (clerk_id, identity_completed_at)
    SELECT 'user_' || i, now() FROM generate_series(1, :people) AS i
""")


@dataclass(slots=True)
class Cost:
    """What a number of like things took, in processor seconds, and in questions to Redis."""

    ours: float = 0.0
    postgres: float = 0.0
    redis: int = 0


def main() -> int:
    """Measure and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        with start_redis(path) as store:
            print(f"{'one':<42}{'ours':>10}{'PostgreSQL':>12}{'Redis':>8}")
            for shared in (False, True):
                _measure_requests(path / f"requests{shared}", store.url if shared else None)
        _measure_sweep(path / "sweep")
    return 0


def _measure_requests(folder: Path, redis_url: str | None) -> None:
    folder.mkdir()
    more = {"REDIS_URL": redis_url} if redis_url else {}
    kind = "Redis" if redis_url else "cache in the process"
    with served(folder, SCHEDULER="off", **more) as app:
        provider = DevIdentityProvider(folder / "identity")
        people = [
            DevUser(f"user_new_{i}", f"Pessoa {i}", f"p{i}@example.com") for i in range(NEWCOMERS)
        ]
        tokens = [provider.token(person) for person in people]
        with requests.Session() as client:
            path = f"{app.url}/api/auth/ensure"
            _ask(client, "POST", path, tokens[:50])  # warm
            log_in = partial(_ask, client, "POST", path, tokens[50:])
            _print_cost(f"first login ({kind})", app, redis_url, log_in, NEWCOMERS - 50)
            _print_cost(
                f"GET /api/auth/me ({kind})",
                app,
                redis_url,
                partial(_ask, client, "GET", f"{app.url}/api/auth/me", tokens[:1] * READS),
                READS,
            )
            visit = partial(_ask, client, "GET", f"{app.url}/dashboard", tokens * 2)
            _print_cost(f"GET /dashboard ({kind})", app, redis_url, visit, NEWCOMERS * 2)
        [worker] = workers(app)
        megabytes = worker.memory_full_info().uss / MEGABYTE
        print(f"{'memory that a process shares with nobody':<42}{megabytes:>7.0f} MB")
        if redis_url:
            each = _info(redis_url, "memory")["used_memory_dataset"] / NEWCOMERS
            print(f"{'memory of Redis for each person':<42}{each / 1024:>7.1f} kB")


def _ask(client: requests.Session, method: str, url: str, tokens: list[str]) -> None:
    for token in tokens:
        client.request(method, url, headers={"Authorization": f"Bearer {token}"}).raise_for_status()


def _print_cost(
    what: str, app: Served, redis_url: str | None, work: Callable[[], None], number: int
) -> None:
    with _spent(app, redis_url) as cost:
        work()
    ours, theirs = (seconds / number * 1000 for seconds in (cost.ours, cost.postgres))
    print(f"{what:<42}{ours:>7.2f} ms{theirs:>9.2f} ms{cost.redis / number:>8.1f}")


@contextmanager
def _spent(app: Served, redis_url: str | None) -> Iterator[Cost]:
    cost, before = Cost(), (_ours(app), _postgres(app.instance), _commands(redis_url))
    yield cost
    cost.ours = _ours(app) - before[0]
    cost.postgres = _postgres(app.instance) - before[1]
    cost.redis = _commands(redis_url) - before[2]


def _ours(app: Served) -> float:
    return sum(_seconds(worker) for worker in workers(app))


def _postgres(instance: Path) -> float:
    pid = int((instance / "postgres" / "postmaster.pid").read_text().split()[0])
    master = psutil.Process(pid)
    ended = master.cpu_times()  # of connections that were closed meanwhile
    return sum(
        (_seconds(process) for process in [master, *master.children()]),
        start=float(ended.children_user + ended.children_system),
    )


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _commands(url: str | None) -> int:
    return int(_info(url, "stats")["total_commands_processed"]) if url else 0


def _info(url: str, section: str) -> dict[str, Any]:
    with redis.Redis.from_url(url) as client:
        found: dict[str, Any] = client.info(section)
        return found


def _measure_sweep(folder: Path) -> None:
    """A crowd that was imported, the first sweep after it, and counting who waits."""
    folder.mkdir()
    with served(folder, SCHEDULER="off") as app:
        with connect_to(embedded.start(folder)) as connection:
            connection.execute(INSERT_CROWD, {"people": CROWD})
            connection.execute(text("ANALYZE"))
            before = _postgres(folder)
            ours, lasted = _sweep(folder)
            postgres = _postgres(folder) - before
            connection.execute(text("ANALYZE"))
        embedded.leave(folder)
        started = time.perf_counter()
        requests.get(f"{app.url}/metrics", timeout=60).raise_for_status()
        counted = time.perf_counter() - started
    each = 1000 / CROWD
    print(f"{'person in a sweep':<42}{ours * each:>7.3f} ms{postgres * each:>9.3f} ms")
    print(f"{'people a second in a sweep':<42}{CROWD / lasted:>10.0f}")
    print(f"{f'/metrics with {CROWD} people, on the clock':<42}{counted * 1000:>7.0f} ms")


def _sweep(folder: Path) -> tuple[float, float]:
    """Sweep by hand; processor time and time on the clock, without starting Python."""
    command = [sys.executable, "-m", "flask", "sweep", "--json"]
    environment = child_environment({"INSTANCE_PATH": str(folder)})
    lasted = []
    for _ in range(2):  # the second finds nothing to do, and tells what starting alone costs
        before, started = os.times(), time.perf_counter()
        subprocess.run(  # nosec B603 # our own words, no shell
            command, cwd=PROJECT, env=environment, check=True, capture_output=True
        )
        after = os.times()
        spent = after.children_user + after.children_system
        spent -= before.children_user + before.children_system
        lasted.append((spent, time.perf_counter() - started))
    (all_cpu, all_time), (idle_cpu, idle_time) = lasted
    return all_cpu - idle_cpu, all_time - idle_time


if __name__ == "__main__":
    sys.exit(main())
