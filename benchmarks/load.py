"""Does the guarantee hold under load? Locust against a fresh app, then a look into its database."""

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

from benchmarks.load_report import Result, read_result, write_report
from benchmarks.load_shapes import SHAPES
from dev import postgres
from dev.databases import count
from dev.servers import PROJECT, Served, child_environment, served

WORKERS = "2"
HEADLESS = ("--headless", "--only-summary", "--stop-timeout", "10s")
REPORTS = PROJECT / "instance" / "load"
STANDARD = ("at-once", "mixed")

PEOPLE_WITHOUT_ONE_PROFILE = """
    SELECT count(*) FROM (
        SELECT users.id FROM users LEFT JOIN mentorados ON mentorados.user_id = users.id
        GROUP BY users.id HAVING count(mentorados.id) <> 1
    ) AS wrong"""
PROFILES = "SELECT count(*) FROM mentorados"
PROFILES_WITHOUT_A_PERSON = "SELECT count(*) FROM mentorados WHERE user_id IS NULL"
PROFILES_NOT_CREATED_ONCE = """
    SELECT count(*) FROM (
        SELECT mentorados.id FROM mentorados LEFT JOIN audit_events AS event
            ON event.mentorado_id = mentorados.id AND event.event = 'mentorado_created'
        GROUP BY mentorados.id HAVING count(event.id) <> 1
    ) AS wrong"""
MUST_BE_ZERO = {
    "people without exactly one profile": PEOPLE_WITHOUT_ONE_PROFILE,
    "profiles without a person": PROFILES_WITHOUT_A_PERSON,
    "profiles not recorded as created exactly once": PROFILES_NOT_CREATED_ONCE,
}


@dataclass(frozen=True, slots=True)
class Run:
    """What Locust is asked for; without a shape, the usual crowd."""

    users: int
    seconds: int
    shape: str | None = None
    slowest_ms: float | None = None
    forgiven: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What its report is called."""
        return f"{self.shape or 'usual'}-{self.users}"

    @property
    def options(self) -> list[str]:
        """How Locust is told."""
        crowd = ["-u", str(self.users), "-r", str(self.users), "-t", f"{self.seconds}s"]
        asked = {"--shape": self.shape, "--slowest-first-login": self.slowest_ms}
        told = [f"{option}={value}" for option, value in asked.items() if value is not None]
        return [*crowd, *told, *(f"--forgive={kind}" for kind in self.forgiven)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the load and return the exit code: 0 only when every invariant and threshold held."""
    wanted = _parser().parse_args(arguments)
    runs = [
        Run(users, wanted.seconds, shape, wanted.slowest_first_login)
        for shape in wanted.shape
        for users in wanted.users
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), WEB_CONCURRENCY=WORKERS) as app,
    ):
        results = [_measure(app, run, wanted.report) for run in runs]
        problems = look_into_the_database(app.instance) + errors_logged(app.log)
    return conclude("load", wanted.report, results, problems)


def _parser() -> argparse.ArgumentParser:
    parser = common_options(__doc__, REPORTS)
    add = parser.add_argument
    add("--users", type=int, nargs="+", default=[50], help="how many act at the same time")
    add("--seconds", type=int, default=10, help="for how long, each time")
    add("--shape", choices=SHAPES, nargs="+", default=STANDARD, help="who comes when, in turn")
    return parser


def common_options(description: str | None, reports: Path) -> argparse.ArgumentParser:
    """What everything that lets Locust loose can be asked for."""
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    add("--report", type=Path, default=reports, help="the folder for what is to be read")
    add("--slowest-first-login", type=float, help="milliseconds at p95; otherwise the contract's")
    return parser


def _measure(app: Served, run: Run, reports: Path) -> Result:
    print(f"\n{run.name}, {run.seconds} seconds", flush=True)
    is_good = run_locust(app, run, reports)
    return read_result(reports, run.name, is_good=is_good)


def run_locust(app: Served, run: Run, reports: Path | None = None) -> bool:
    """Let the crowd in; whether Locust was content with what it met."""
    with crowded(app, run, reports) as locust:
        return locust.wait() == 0


@contextmanager
def crowded(
    app: Served, run: Run, reports: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Surround what happens while the crowd is there; it is sent home at the end."""
    command = [sys.executable, "-m", "locust", "-f", "locustfile.py", *HEADLESS, *run.options]
    if reports:
        reports.mkdir(parents=True, exist_ok=True)
        statistics = reports.resolve() / run.name
        statistics.with_suffix(".json").unlink(missing_ok=True)
        command += ["--html", f"{statistics}.html", "--json-file", str(statistics)]
    environment = child_environment({"INSTANCE_PATH": str(app.instance)})
    # Started by a background shell we ignore SIGINT, and Locust, which ends by it, would as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    locust = subprocess.Popen(  # nosec B603 # our own words, no shell
        [*command, "--host", app.url], cwd=PROJECT, env=environment
    )
    try:
        yield locust
    finally:
        if locust.poll() is None:
            locust.send_signal(signal.SIGINT)
        locust.wait()


def look_into_the_database(folder: Path) -> list[str]:
    """What is wrong in the embedded database that the app has left."""
    url = postgres.start(folder)
    try:
        print(f"{count(url, PROFILES)} profiles in the database")
        found = {name: count(url, query) for name, query in MUST_BE_ZERO.items()}
    finally:
        postgres.leave(folder)
    return [f"{number} {name}" for name, number in found.items() if number]


def errors_logged(log: Path, excused: tuple[str, ...] = ()) -> list[str]:
    """What the app itself called an error, unless it begins with something that is excused."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    errors = [line for line in lines if line["level"] in ("error", "critical")]
    return [f"logged: {line}" for line in errors if not line["event"].startswith(excused)]


def conclude(work: str, reports: Path, results: Sequence[Result], problems: list[str]) -> int:
    """Tell how it went, in words and in a report, and by the exit code."""
    failed = [result.name for result in results if not result.is_good]
    problems += [f"{name}: Locust was not content, and says why" for name in failed]
    for problem in problems:
        print(f"FAILED: {problem}")
    print(f"report: {write_report(reports, results, problems)}")
    print(f"{work}: FAILED" if problems else f"{work}: every invariant and threshold held")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
