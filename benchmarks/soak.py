"""Does anything leak? The load test for minutes on end, with an eye on memory and connections."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from sqlalchemy import text
from sqlalchemy.engine import Connection

from benchmarks.load import (
    WORKERS,
    Run,
    errors_logged,
    look_into_the_database,
    run_locust,
)
from core.connection_pool import CONNECTION_LIMIT
from dev import postgres
from dev.databases import connect_to
from dev.servers import Served, served, start_redis, workers

PAUSE_SECONDS = 1  # between two looks
WARM_UP = 0.2  # of the time: pools fill, code is loaded, caches find their size
WINDOW = 0.1  # of the time, whose median counts: single figures jump
MOST_GROWTH = 0.05
LONGEST_IDLE_SECONDS = 1.0
MEGABYTE = 1024 * 1024
IDLE_IN_TRANSACTION = text("""
    SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)
      FROM pg_stat_activity
     WHERE application_name = 'neon-dashboard' AND state LIKE 'idle in transaction%'
""")


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at one time; memory and connections are those of each worker."""

    seconds: float
    resident_bytes: dict[int, int]
    connections: dict[int, int]
    idle: int
    oldest_idle_seconds: float

    @property
    def total_megabytes(self) -> float:
        """The memory of all workers together."""
        return sum(self.resident_bytes.values()) / MEGABYTE


def main() -> int:
    """Run the load and return the exit code: 0 only when nothing leaked and everything held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50, help="how many act at the same time")
    parser.add_argument("--minutes", type=float, default=10, help="for how long")
    wanted = parser.parse_args()
    seconds = round(wanted.minutes * 60)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_redis(Path(folder)) as redis,
        served(Path(folder), WEB_CONCURRENCY=WORKERS, REDIS_URL=redis.url) as app,
        ThreadPoolExecutor(1) as pool,
    ):
        crowd = pool.submit(run_locust, app, Run(wanted.users, seconds))
        looks = list(_look_on(app, seconds, crowd.done))
        complaints = [] if crowd.result() else ["Locust was not content"]
        problems = look_into_the_database(app.instance) + errors_logged(app.log)
    _print_table(looks, seconds)
    problems += complaints + judge(looks, seconds)
    for problem in problems:
        print(f"FAILED: {problem}")
    print("soak: FAILED" if problems else "soak: nothing grew, nothing was left open")
    return 1 if problems else 0


def judge(looks: Sequence[Look], seconds: float) -> list[str]:
    """What leaked, in words: compared are the end of the warm-up and the end."""
    before = _window(looks, seconds * WARM_UP, seconds * (WARM_UP + WINDOW))
    after = _window(looks, seconds * (1 - WINDOW), seconds)
    if not before or not after:
        return ["there was too little to look at"]
    growth = _memory(after) / _memory(before) - 1
    oldest = max(look.oldest_idle_seconds for look in looks)
    most = max(number for look in looks for number in look.connections.values())
    faults = {
        f"memory grew by {growth:.1%}": growth > MOST_GROWTH,
        f"a transaction was left open for {oldest:.1f} s": oldest > LONGEST_IDLE_SECONDS,
        f"a process had {most} connections": most > CONNECTION_LIMIT,
        "a worker was replaced": len({frozenset(look.resident_bytes) for look in looks}) > 1,
    }
    return [words for words, is_so in faults.items() if is_so]


def _look_on(app: Served, seconds: float, is_over: Callable[[], bool]) -> Iterator[Look]:
    start = time.monotonic()
    with connect_to(postgres.start(app.instance)) as connection:
        while not is_over():
            passed = time.monotonic() - start
            if passed <= seconds:  # afterwards Locust only counts
                yield _look(app, connection, passed)
            time.sleep(PAUSE_SECONDS)
    postgres.leave(app.instance)


def _look(app: Served, connection: Connection, seconds: float) -> Look:
    idle, oldest = connection.execute(IDLE_IN_TRANSACTION).one()
    processes = workers(app)
    return Look(
        seconds,
        {process.pid: process.memory_info().rss for process in processes},
        # The embedded server listens on a socket in the file system, and nothing else here does.
        {process.pid: len(process.net_connections(kind="unix")) for process in processes},
        idle,
        float(oldest),
    )


def _window(looks: Sequence[Look], start: float, end: float) -> list[Look]:
    return [look for look in looks if start <= look.seconds <= end]


def _memory(looks: Sequence[Look]) -> float:
    return median(look.total_megabytes for look in looks)


def _print_table(looks: Sequence[Look], seconds: float) -> None:
    print(f"{'until':>7} {'memory':>9} {'connections':>12} {'idle':>5} {'oldest':>8}")
    for start, end in pairwise(seconds * tenth / 10 for tenth in range(11)):
        window = _window(looks, start, end)
        if window:
            most = max(number for look in window for number in look.connections.values())
            idle = max(look.idle for look in window)
            oldest = max(look.oldest_idle_seconds for look in window)
            memory = f"{_memory(window):.1f} MB"
            print(f"{end:>5.0f} s {memory:>9} {most:>12} {idle:>5} {oldest:>6.3f} s")


if __name__ == "__main__":
    sys.exit(main())
