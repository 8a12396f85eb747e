"""Sweeps in processes of their own that are killed, stopped or frozen in the middle of a step."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dev.clients import queue_length
from dev.databases import connect_to, count, locking
from dev.servers import PROJECT, child_environment, eventually, frozen, stop

PEOPLE = 50
ABSENT = f"""
INSERT INTO users (clerk_id, name, identity_completed_at)
SELECT 'user_' || i, 'Pessoa ' || i, now() FROM generate_series(1, {PEOPLE}) AS i
"""
PROFILES = "SELECT count(user_id) FROM mentorados"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
STATUS = "SELECT count(*) FROM sweep_runs WHERE status = :status"
# As if the lease had been over for a while: nobody has to wait for it.
SILENT = """
UPDATE sweep_runs SET heartbeat_at = now() - interval '1 minute' WHERE status = 'running'
"""


@pytest.fixture
def people(url: str) -> None:
    """People whom the database knows without a profile."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(ABSENT)


@contextmanager
def flask(url: str, folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a flask command beside the test; a scheduler sweeps once an hour."""
    settings = {"DATABASE_URL": url, "INSTANCE_PATH": str(folder), "SWEEP_INTERVAL_SECONDS": "3600"}
    with (folder / "flask.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", *command],
            cwd=PROJECT,
            env=child_environment(settings),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        stop(process)


def is_one(url: str, status: str) -> bool:
    return count(url, STATUS, status=status) == 1


def let_lease_end(url: str) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql(SILENT)


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("signum", "left"), [(signal.SIGKILL, "running"), (signal.SIGTERM, "queued")]
)
def test_sweep_of_a_command_that_is_ended_refuses_no_other(
    url: str, tmp_path: Path, turnstile: str, signum: signal.Signals, left: str
) -> None:
    with locking(url, turnstile), flask(url, tmp_path, "sweep") as first:
        assert eventually(lambda: queue_length(url) == 1, seconds=30)
        os.kill(first.pid, signum)
        assert first.wait(timeout=20) != 0
        assert eventually(lambda: is_one(url, left))
    let_lease_end(url)

    with flask(url, tmp_path, "sweep") as second:
        assert second.wait(timeout=30) == 0

    assert count(url, PROFILES) == count(url, CREATIONS) == PEOPLE


@pytest.mark.usefixtures("people")
def test_scheduler_sweeps_at_its_start_and_gives_its_run_to_another_when_it_is_stopped(
    url: str, tmp_path: Path, turnstile: str
) -> None:
    with locking(url, turnstile), flask(url, tmp_path, "scheduler") as first:
        assert eventually(lambda: queue_length(url) == 1, seconds=30)
        first.terminate()
        assert eventually(lambda: is_one(url, "queued"))
        assert first.wait(timeout=20) == 0

    with flask(url, tmp_path, "scheduler"):
        assert eventually(lambda: is_one(url, "succeeded"), seconds=30)

    assert count(url, PROFILES) == count(url, CREATIONS) == PEOPLE


@pytest.mark.usefixtures("people")
def test_scheduler_that_is_frozen_in_a_step_loses_its_run_and_its_locks_and_writes_nothing(
    url: str, tmp_path: Path, turnstile: str
) -> None:
    with flask(url, tmp_path, "scheduler") as first:
        with locking(url, turnstile):
            assert eventually(lambda: queue_length(url) == 1, seconds=30)
            first.send_signal(signal.SIGSTOP)
        let_lease_end(url)
        with frozen(first), flask(url, tmp_path, "scheduler"):
            # Ten seconds after the frozen one's last statement the database takes its locks away.
            assert eventually(lambda: is_one(url, "succeeded"), seconds=30)
        log = tmp_path / "flask.log"
        assert eventually(lambda: "sweep_lost" in log.read_text())

    assert is_one(url, "abandoned")
    assert count(url, PROFILES) == count(url, CREATIONS) == PEOPLE
