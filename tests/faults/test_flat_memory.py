"""The memory of a sweep does not depend on the number of users."""

import subprocess
import sys
from pathlib import Path

from benchmarks.databases import connect_to, count
from benchmarks.servers import PROJECT, child_environment

USERS = 100_000
ADD_USERS = """
INSERT INTO users (clerk_id, name, email, email_verified)
SELECT 'absent_' || i, 'Pessoa ' || i, i || '@example.com', true FROM generate_series(1, {n}) AS i
"""
# The process's peak memory according to the kernel, as the last line of its output.
COMMAND = """
import resource, sys
from flask.cli import main
sys.argv = ["flask", "sweep", "--json"]
try:
    main()
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
GROWTH_KIB = 50 * 1024


def peak_kib(url: str, folder: Path) -> int:
    """Run `flask sweep` and return its peak memory in KiB."""
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(folder), "SCHEDULER": "off"}
    command = [sys.executable, "-c", COMMAND]
    environment = child_environment(settings)
    completed = subprocess.run(
        command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True
    )
    return int(completed.stdout.splitlines()[-1])


def test_sweep_of_a_hundred_thousand_users_needs_no_more_memory_than_an_empty_one(
    url: str, tmp_path: Path
) -> None:
    before = peak_kib(url, tmp_path)
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS.format(n=USERS))

    after = peak_kib(url, tmp_path)

    assert count(url, "SELECT count(user_id) FROM mentorados") == USERS
    assert after - before < GROWTH_KIB
