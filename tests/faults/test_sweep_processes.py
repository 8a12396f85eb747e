"""Sweeps in separate processes that are killed, stopped or suspended during a step."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.databases import connect_to, count, hold_locks
from benchmarks.servers import PROJECT, child_environment, eventually, stop, suspended
from tests.support.clients import queue_length

USERS = 50
ADD_USERS = f"""
INSERT INTO users (clerk_id, name, identity_completed_at)
SELECT 'user_' || i, 'Pessoa ' || i, now() FROM generate_series(1, {USERS}) AS i
"""
PROFILES = "SELECT count(user_id) FROM mentorados"
CREATIONS = "SELECT count(*) FROM audit_events WHERE event = 'mentorado_created'"
STATUS = "SELECT count(*) FROM sweep_runs WHERE status = :status"


@pytest.fixture
def users(url: str) -> None:
    """Users without a profile."""
    with connect_to(url) as connection:
        connection.exec_driver_sql(ADD_USERS)


@contextmanager
def flask(url: str, folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a flask command; a scheduler sweeps once an hour."""
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


def has_one_run(url: str, status: str) -> bool:
    return count(url, STATUS, status=status) == 1


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGKILL, "running"), (signal.SIGTERM, "queued")]
)
def test_killed_or_stopped_sweep_command_does_not_block_the_next(
    url: str,
    tmp_path: Path,
    barrier: str,
    expire_lease: Callable[[], None],
    signum: signal.Signals,
    status: str,
) -> None:
    with hold_locks(url, barrier), flask(url, tmp_path, "sweep") as first:
        assert eventually(lambda: queue_length(url) == 1, seconds=30)
        os.kill(first.pid, signum)
        assert first.wait(timeout=20) != 0
        assert eventually(lambda: has_one_run(url, status))
    expire_lease()

    with flask(url, tmp_path, "sweep") as second:
        assert second.wait(timeout=30) == 0

    assert count(url, PROFILES) == count(url, CREATIONS) == USERS


@pytest.mark.usefixtures("users")
def test_scheduler_sweeps_at_its_start_and_queues_its_run_when_it_stops(
    url: str, tmp_path: Path, barrier: str
) -> None:
    with hold_locks(url, barrier), flask(url, tmp_path, "scheduler") as first:
        assert eventually(lambda: queue_length(url) == 1, seconds=30)
        first.terminate()
        assert eventually(lambda: has_one_run(url, "queued"))
        assert first.wait(timeout=20) == 0

    with flask(url, tmp_path, "scheduler"):
        assert eventually(lambda: has_one_run(url, "succeeded"), seconds=30)

    assert count(url, PROFILES) == count(url, CREATIONS) == USERS


@pytest.mark.usefixtures("users")
def test_suspended_scheduler_loses_its_run_and_locks_and_writes_nothing(
    url: str, tmp_path: Path, barrier: str, expire_lease: Callable[[], None]
) -> None:
    with flask(url, tmp_path, "scheduler") as first:
        with hold_locks(url, barrier):
            assert eventually(lambda: queue_length(url) == 1, seconds=30)
            first.send_signal(signal.SIGSTOP)
        expire_lease()
        with suspended(first), flask(url, tmp_path, "scheduler"):
            # The database ends the suspended transaction ten seconds after its last statement.
            assert eventually(lambda: has_one_run(url, "succeeded"), seconds=30)
        log = tmp_path / "flask.log"
        assert eventually(lambda: "sweep_lost" in log.read_text())

    assert has_one_run(url, "abandoned")
    assert count(url, PROFILES) == count(url, CREATIONS) == USERS
