"""Run the load test while parts fail: Redis, database connections, PostgreSQL, a worker."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.databases import count
from benchmarks.load import (
    PROFILES,
    REPORTS,
    WORKERS,
    Run,
    check_database,
    common_options,
    conclude,
    errors_logged,
    running_locust,
)
from benchmarks.load_report import read_result
from benchmarks.servers import (
    AppServer,
    PostgresServer,
    RedisServer,
    eventually,
    free_port,
    run_app,
    start_postgres,
    start_redis,
    workers,
)

SHAPE = "mixed"  # new users all the time, and simultaneous requests of one user's devices
LONGEST_SECONDS = 600  # the faults end much earlier, and then the load is stopped
WAIT_SECONDS = 30  # for the effect of a fault, on a busy machine
PAUSE_SECONDS = 0.1
REFUSED = "mentorado_creation_failed"  # logged with the 503 of the request
KILLED = "Worker (pid:"
CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name = 'neon-dashboard'
"""


@dataclass(slots=True)
class Environment:
    """The processes started for this run, and what can be done to them."""

    folder: Path
    postgres: PostgresServer
    ends: ExitStack
    redis_port: int = field(default_factory=free_port)
    redis: RedisServer = field(init=False)
    app: AppServer = field(init=False)

    def start_redis(self) -> None:
        """Start Redis, always on the same port."""
        self.redis = self.ends.enter_context(start_redis(self.folder, self.redis_port))

    def kill_redis(self) -> None:
        """Kill Redis, which loses its data."""
        self.redis.process.kill()
        self.redis.process.wait()

    def cut_connections(self) -> None:
        """Terminate all connections of the app in PostgreSQL."""
        count(self.postgres.url, CUT)

    def crash_postgres(self) -> None:
        """Crash PostgreSQL as a power cut would."""
        self.postgres.crash()

    def start_postgres(self) -> None:
        """Start PostgreSQL again, which recovers from its log."""
        self.postgres.start()

    def kill_worker(self) -> None:
        """Kill a worker process; gunicorn starts another."""
        workers(self.app)[0].kill()

    def nothing(self) -> None:
        """Do nothing."""

    def profiles(self) -> int:
        """Count the profiles."""
        return count(self.postgres.url, PROFILES)

    def count_events(self, event: str) -> int:
        """Count the events of this name in the app's log."""
        return self.app.log.read_text().count(f'"event": "{event}')


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault: how it begins, repeats and ends, the log event that shows its effect (`sign`).

    `tolerated` are kinds of answers that are no failures, `logged` are prefixes of expected errors.
    """

    begin: Callable[[Environment], None]
    sign: str
    repeat: Callable[[Environment], None] = Environment.nothing
    end: Callable[[Environment], None] = Environment.nothing
    tolerated: tuple[str, ...] = ()
    logged: tuple[str, ...] = ()


FAULTS = {
    "redis": Fault(Environment.kill_redis, "cache_error", end=Environment.start_redis),
    "connections": Fault(
        Environment.cut_connections,
        "mentorado_ensure_retried",
        repeat=Environment.cut_connections,
        tolerated=("waiting",),
        logged=(REFUSED,),
    ),
    "database": Fault(
        Environment.crash_postgres,
        REFUSED,
        end=Environment.start_postgres,
        tolerated=("waiting",),
        logged=(REFUSED,),
    ),
    "worker": Fault(Environment.kill_worker, KILLED, tolerated=("lost",), logged=(KILLED,)),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load with the chosen faults; the exit code is 0 only if every invariant held."""
    options = _parser().parse_args(arguments)
    faults = {name: FAULTS[name] for name in options.only}
    expected = sum((fault.logged for fault in faults.values()), ())
    tolerated = tuple({kind for fault in faults.values() for kind in fault.tolerated})
    run = Run(options.users, LONGEST_SECONDS, SHAPE, options.slowest_first_login, tolerated)
    with ExitStack() as ends:
        environment = _set_up(ends)
        with running_locust(environment.app, run, options.report) as locust:
            problems = list(_run_faults(environment, faults, options.seconds))
            if locust.poll() is not None:
                problems.append("the load ended before the faults")
        result = read_result(options.report, run.name, is_good=locust.returncode == 0)
        problems += check_database(environment.postgres.folder)
        problems += errors_logged(environment.app.log, expected)
    return conclude("faults", options.report, [result], problems)


def _parser() -> argparse.ArgumentParser:
    parser = common_options(__doc__, REPORTS / "faults")
    add = parser.add_argument
    add("--only", choices=FAULTS, nargs="+", default=FAULTS, help="the faults to cause, in turn")
    add("--users", type=int, default=20, help="simultaneous users")
    add("--seconds", type=float, default=5, help="duration of each fault")
    return parser


def _set_up(ends: ExitStack) -> Environment:
    folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
    postgres = ends.enter_context(start_postgres(folder / "database"))
    environment = Environment(folder, postgres, ends)
    environment.start_redis()
    settings = {"DATABASE_URL": postgres.url, "REDIS_URL": environment.redis.url}
    environment.app = ends.enter_context(run_app(folder, WEB_CONCURRENCY=WORKERS, **settings))
    return environment


def _run_faults(
    environment: Environment, faults: Mapping[str, Fault], seconds: float
) -> Iterator[str]:
    """Cause one fault after the other, with a new user before and after each; yields problems."""
    if not _is_new_user_served(environment):
        yield "no user came"
    for name, fault in faults.items():
        if not _run_fault(environment, fault, seconds):
            yield f"{name}: the fault had no effect"
        ended = time.monotonic()
        if not _is_new_user_served(environment):
            yield f"{name}: no new user was served afterwards"
        print(f"{name}: over, and the next profile {time.monotonic() - ended:.2f} s later")


def _run_fault(environment: Environment, fault: Fault, seconds: float) -> bool:
    """Keep the fault for `seconds` and until its log event; False if the event never came."""
    before, start = environment.count_events(fault.sign), time.monotonic()
    fault.begin(environment)
    elapsed, has_effect = 0.0, False
    while elapsed < seconds or (not has_effect and elapsed < WAIT_SECONDS):
        time.sleep(PAUSE_SECONDS)
        fault.repeat(environment)
        elapsed = time.monotonic() - start
        has_effect = environment.count_events(fault.sign) > before
    fault.end(environment)
    return has_effect


def _is_new_user_served(environment: Environment) -> bool:
    before = environment.profiles()
    return eventually(lambda: environment.profiles() > before, seconds=WAIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
