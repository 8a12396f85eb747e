"""Run Locust against a fresh app, then check its database: one profile for each user."""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.databases import count
from benchmarks.load_report import Result, read_result, write_report
from benchmarks.load_shapes import SHAPES
from benchmarks.servers import PROJECT, AppServer, child_environment, run_app
from dev import postgres

WORKERS = "2"
HEADLESS = ("--headless", "--only-summary", "--stop-timeout", "10s")
REPORTS = PROJECT / "instance" / "load"
STANDARD = ("at-once", "mixed")

USERS_WITHOUT_ONE_PROFILE = """
    SELECT count(*) FROM (
        SELECT users.id FROM users LEFT JOIN mentorados ON mentorados.user_id = users.id
        GROUP BY users.id HAVING count(mentorados.id) <> 1
    ) AS wrong"""
PROFILES = "SELECT count(*) FROM mentorados"
PROFILES_WITHOUT_USER = "SELECT count(*) FROM mentorados WHERE user_id IS NULL"
PROFILES_NOT_CREATED_ONCE = """
    SELECT count(*) FROM (
        SELECT mentorados.id FROM mentorados LEFT JOIN audit_events AS event
            ON event.mentorado_id = mentorados.id AND event.event = 'mentorado_created'
        GROUP BY mentorados.id HAVING count(event.id) <> 1
    ) AS wrong"""
MUST_BE_ZERO = {
    "users without exactly one profile": USERS_WITHOUT_ONE_PROFILE,
    "profiles without a user": PROFILES_WITHOUT_USER,
    "profiles not recorded as created exactly once": PROFILES_NOT_CREATED_ONCE,
}


@dataclass(frozen=True, slots=True)
class Run:
    """The options of a Locust run; without a shape, constant mixed users."""

    users: int
    seconds: int
    shape: str | None = None
    slowest_ms: float | None = None
    tolerated: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the report."""
        return f"{self.shape or 'usual'}-{self.users}"

    @property
    def options(self) -> list[str]:
        """Return Locust's command-line options."""
        load = ["-u", str(self.users), "-r", str(self.users), "-t", f"{self.seconds}s"]
        optional = {"--shape": self.shape, "--slowest-first-login": self.slowest_ms}
        given = [f"{option}={value}" for option, value in optional.items() if value is not None]
        return [*load, *given, *(f"--tolerate={kind}" for kind in self.tolerated)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load and return the exit code: 0 only if every invariant and threshold held."""
    options = _parser().parse_args(arguments)
    runs = [
        Run(users, options.seconds, shape, options.slowest_first_login)
        for shape in options.shape
        for users in options.users
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        run_app(Path(folder), WEB_CONCURRENCY=WORKERS) as app,
    ):
        results = [_measure(app, run, options.report) for run in runs]
        problems = check_database(app.instance) + errors_logged(app.log)
    return conclude("load", options.report, results, problems)


def _parser() -> argparse.ArgumentParser:
    parser = common_options(__doc__, REPORTS)
    add = parser.add_argument
    add("--users", type=int, nargs="+", default=[50], help="simultaneous users of each run")
    add("--seconds", type=int, default=10, help="duration of each run")
    add("--shape", choices=SHAPES, nargs="+", default=STANDARD, help="load shapes, one run each")
    return parser


def common_options(description: str | None, reports: Path) -> argparse.ArgumentParser:
    """Return a parser with the options of all programs that run Locust."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--report", type=Path, default=reports, help="the folder for the reports")
    add("--slowest-first-login", type=float, help="milliseconds at p95; default: the contract's")
    return parser


def _measure(app: AppServer, run: Run, reports: Path) -> Result:
    print(f"\n{run.name}, {run.seconds} seconds", flush=True)
    is_good = run_locust(app, run, reports)
    return read_result(reports, run.name, is_good=is_good)


def run_locust(app: AppServer, run: Run, reports: Path | None = None) -> bool:
    """Run Locust to its end; returns whether it succeeded."""
    with running_locust(app, run, reports) as locust:
        return locust.wait() == 0


@contextmanager
def running_locust(
    app: AppServer, run: Run, reports: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Locust in the background; it is terminated at the end of the block."""
    command = [sys.executable, "-m", "locust", "-f", "locustfile.py", *HEADLESS, *run.options]
    if reports:
        reports.mkdir(parents=True, exist_ok=True)
        statistics = reports.resolve() / run.name
        statistics.with_suffix(".json").unlink(missing_ok=True)
        command += ["--html", f"{statistics}.html", "--json-file", str(statistics)]
    environment = child_environment({"INSTANCE_PATH": str(app.instance)})
    # A background shell makes its children ignore SIGINT, by which Locust is ended.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    locust = subprocess.Popen(  # nosec B603 # fixed arguments, no shell
        [*command, "--host", app.url], cwd=PROJECT, env=environment
    )
    try:
        yield locust
    finally:
        if locust.poll() is None:
            locust.send_signal(signal.SIGINT)
        locust.wait()


def check_database(folder: Path) -> list[str]:
    """Count violations of the invariants in the app's embedded database; returns the problems."""
    url = postgres.start(folder)
    try:
        print(f"{count(url, PROFILES)} profiles in the database")
        found = {name: count(url, query) for name, query in MUST_BE_ZERO.items()}
    finally:
        postgres.release(folder)
    return [f"{number} {name}" for name, number in found.items() if number]


def errors_logged(log: Path, expected: tuple[str, ...] = ()) -> list[str]:
    """Return the errors in the app's log, except events that start with an `expected` text."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    errors = [line for line in lines if line["level"] in ("error", "critical")]
    return [f"logged: {line}" for line in errors if not line["event"].startswith(expected)]


def conclude(work: str, reports: Path, results: Sequence[Result], problems: list[str]) -> int:
    """Print the problems and write the report; returns the exit code."""
    failed = [result.name for result in results if not result.is_good]
    problems += [f"{name}: Locust failed, see its output" for name in failed]
    for problem in problems:
        print(f"FAILED: {problem}")
    print(f"report: {write_report(reports, results, problems)}")
    print(f"{work}: FAILED" if problems else f"{work}: every invariant and threshold held")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
