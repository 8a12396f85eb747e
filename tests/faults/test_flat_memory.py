"""A sweep of very many people takes no more memory than one of a few."""

import subprocess
import sys
from pathlib import Path

from dev.databases import connect_to, count
from dev.servers import PROJECT, child_environment

PEOPLE = 100_000
ABSENT = """
INSERT INTO users (clerk_id, name, email, email_verified)
SELECT 'absent_' || i, 'Pessoa ' || i, i || '@example.com', true FROM generate_series(1, {n}) AS i
"""
# Its own peak, as the kernel has it, on the last line of what the command says.
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
    """How much memory `flask sweep` came to."""
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(folder), "SCHEDULER": "off"}
    command = [sys.executable, "-c", COMMAND]
    environment = child_environment(settings)
    swept = subprocess.run(
        command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True
    )
    return int(swept.stdout.splitlines()[-1])


def test_hundred_thousand_people_take_no_more_memory_than_nobody(url: str, tmp_path: Path) -> None:
    before = peak_kib(url, tmp_path)
    with connect_to(url) as connection:
        connection.exec_driver_sql(ABSENT.format(n=PEOPLE))

    after = peak_kib(url, tmp_path)

    assert count(url, "SELECT count(user_id) FROM mentorados") == PEOPLE
    assert after - before < GROWTH_KIB
