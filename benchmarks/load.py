"""Does the guarantee hold under load? Locust against a fresh app, then a look into its database."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import embedded
from tests.databases import count
from tests.serving import PROJECT, Served, child_environment, served

WORKERS = "2"
HEADLESS = ("--headless", "--only-summary", "--stop-timeout", "10s")

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


def main() -> int:
    """Run the load and return the exit code: 0 only when every invariant and threshold held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50, help="how many act at the same time")
    parser.add_argument("--seconds", type=int, default=20, help="for how long")
    wanted = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(Path(folder), WEB_CONCURRENCY=WORKERS) as app,
    ):
        is_locust_content = run_locust(app, wanted.users, wanted.seconds)
        problems = look_into_the_database(app.instance) + errors_logged(app.log)
    for problem in problems:
        print(f"FAILED: {problem}")
    is_good = is_locust_content and not problems
    print("load: every invariant and threshold held" if is_good else "load: FAILED")
    return 0 if is_good else 1


def run_locust(app: Served, users: int, seconds: int) -> bool:
    """Let the crowd in; whether Locust was content with what it met."""
    command = [sys.executable, "-m", "locust", "-f", "locustfile.py", *HEADLESS]
    crowd = ["-u", str(users), "-r", str(users), "-t", f"{seconds}s", "--host", app.url]
    environment = child_environment({"INSTANCE_PATH": str(app.instance)})
    run = subprocess.run(  # nosec B603 # our own words, no shell
        [*command, *crowd], cwd=PROJECT, env=environment, check=False
    )
    return run.returncode == 0


def look_into_the_database(folder: Path) -> list[str]:
    """What is wrong in the embedded database that the app has left."""
    url = embedded.start(folder)
    try:
        print(f"{count(url, PROFILES)} profiles in the database")
        found = {name: count(url, query) for name, query in MUST_BE_ZERO.items()}
    finally:
        embedded.leave(folder)
    return [f"{number} {name}" for name, number in found.items() if number]


def errors_logged(log: Path) -> list[str]:
    """What the app itself called an error."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [f"logged: {line}" for line in lines if line["level"] in ("error", "critical")]


if __name__ == "__main__":
    sys.exit(main())
