"""Run the load test for minutes and check memory, connections and transactions for leaks."""

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

from benchmarks.databases import connect_to
from benchmarks.load import (
    WORKERS,
    Run,
    check_database,
    errors_logged,
    run_locust,
)
from benchmarks.servers import AppServer, run_app, start_redis, workers
from core.connection_pool import CONNECTION_LIMIT
from dev import postgres

PAUSE_SECONDS = 1  # between two samples
WARM_UP = 0.2  # share of the time in which pools and caches fill
WINDOW = 0.1  # share of the time whose median is compared: single values vary
MOST_GROWTH = 0.05
LONGEST_IDLE_SECONDS = 1.0
MEGABYTE = 1024 * 1024
IDLE_IN_TRANSACTION = text("""
    SELECT count(*), coalesce(max(extract(epoch FROM clock_timestamp() - state_change)), 0)
      FROM pg_stat_activity
     WHERE application_name = 'neon-dashboard' AND state LIKE 'idle in transaction%'
""")


@dataclass(frozen=True, slots=True)
class Sample:
    """A sample at one time; memory and connections by worker."""

    seconds: float
    resident_bytes: dict[int, int]
    connections: dict[int, int]
    idle: int
    oldest_idle_seconds: float

    @property
    def total_megabytes(self) -> float:
        """Return the memory of all workers together."""
        return sum(self.resident_bytes.values()) / MEGABYTE


def main() -> int:
    """Run the load and return the exit code: 0 only without leaks and problems."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50, help="simultaneous users")
    parser.add_argument("--minutes", type=float, default=10, help="duration")
    options = parser.parse_args()
    seconds = round(options.minutes * 60)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_redis(Path(folder)) as redis,
        run_app(Path(folder), WEB_CONCURRENCY=WORKERS, REDIS_URL=redis.url) as app,
        ThreadPoolExecutor(1) as pool,
    ):
        load = pool.submit(run_locust, app, Run(options.users, seconds))
        samples = list(_sample_until(app, seconds, load.done))
        failures = [] if load.result() else ["Locust failed"]
        problems = check_database(app.instance) + errors_logged(app.log)
    _print_table(samples, seconds)
    problems += failures + judge(samples, seconds)
    for problem in problems:
        print(f"FAILED: {problem}")
    print("soak: FAILED" if problems else "soak: no leak found")
    return 1 if problems else 0


def judge(samples: Sequence[Sample], seconds: float) -> list[str]:
    """Compare the window after the warm-up with the last one; returns the leaks as text."""
    before = _window(samples, seconds * WARM_UP, seconds * (WARM_UP + WINDOW))
    after = _window(samples, seconds * (1 - WINDOW), seconds)
    if not before or not after:
        return ["there was too little to look at"]
    growth = _memory(after) / _memory(before) - 1
    oldest = max(sample.oldest_idle_seconds for sample in samples)
    most = max(number for sample in samples for number in sample.connections.values())
    faults = {
        f"memory grew by {growth:.1%}": growth > MOST_GROWTH,
        f"a transaction was left open for {oldest:.1f} s": oldest > LONGEST_IDLE_SECONDS,
        f"a process had {most} connections": most > CONNECTION_LIMIT,
        "a worker was replaced": len({frozenset(sample.resident_bytes) for sample in samples}) > 1,
    }
    return [text for text, is_leak in faults.items() if is_leak]


def _sample_until(app: AppServer, seconds: float, is_over: Callable[[], bool]) -> Iterator[Sample]:
    start = time.monotonic()
    with connect_to(postgres.start(app.instance)) as connection:
        while not is_over():
            elapsed = time.monotonic() - start
            if elapsed <= seconds:  # later Locust only writes its statistics
                yield _sample(app, connection, elapsed)
            time.sleep(PAUSE_SECONDS)
    postgres.release(app.instance)


def _sample(app: AppServer, connection: Connection, seconds: float) -> Sample:
    idle, oldest = connection.execute(IDLE_IN_TRANSACTION).one()
    processes = workers(app)
    return Sample(
        seconds,
        {process.pid: process.memory_info().rss for process in processes},
        # Only the embedded database listens on a Unix socket here.
        {process.pid: len(process.net_connections(kind="unix")) for process in processes},
        idle,
        float(oldest),
    )


def _window(samples: Sequence[Sample], start: float, end: float) -> list[Sample]:
    return [sample for sample in samples if start <= sample.seconds <= end]


def _memory(samples: Sequence[Sample]) -> float:
    return median(sample.total_megabytes for sample in samples)


def _print_table(samples: Sequence[Sample], seconds: float) -> None:
    print(f"{'until':>7} {'memory':>9} {'connections':>12} {'idle':>5} {'oldest':>8}")
    for start, end in pairwise(seconds * tenth / 10 for tenth in range(11)):
        window = _window(samples, start, end)
        if window:
            most = max(number for sample in window for number in sample.connections.values())
            idle = max(sample.idle for sample in window)
            oldest = max(sample.oldest_idle_seconds for sample in window)
            memory = f"{_memory(window):.1f} MB"
            print(f"{end:>5.0f} s {memory:>9} {most:>12} {idle:>5} {oldest:>6.3f} s")


if __name__ == "__main__":
    sys.exit(main())
