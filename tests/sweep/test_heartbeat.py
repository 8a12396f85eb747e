"""The heartbeat extends the lease of a sweep while the sweep works."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text
from structlog.testing import capture_logs

from benchmarks.databases import connect_to, count
from benchmarks.servers import eventually
from core.database import background_transaction
from sweep import runs
from sweep.heartbeat import BEAT_SECONDS, GRACE_SECONDS, LONGEST_STEP_SECONDS, Heartbeat
from sweep.runs import LEASE, RunLeaseLostError, SweepStoppedError
from tests.support.apps import create_app_on
from tests.support.concurrency import Clock

OWNER = "host:1:a"
RENEWED = "SELECT count(*) FROM sweep_runs WHERE heartbeat_at > now() - interval '1 minute'"
EXPIRE = "UPDATE sweep_runs SET heartbeat_at = now() - interval '1 hour'"
STATUS = "SELECT count(*) FROM sweep_runs WHERE status = :status AND coalesce(owner, '') = :owner"
SLEEP = text("SELECT pg_sleep(30)")


@pytest.fixture
def app(url: str, tmp_path: Path) -> Iterator[Flask]:
    with create_app_on(tmp_path, url) as app:
        yield app


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stops() -> list[bool]:
    """A list whose last item says whether the process should stop."""
    return [False]


@pytest.fixture
def heartbeat(app: Flask, url: str, clock: Clock, stops: list[bool]) -> Iterator[Heartbeat]:
    """The heartbeat of a run that started long ago in the database, just now in this process."""
    with background_transaction() as session:
        run = runs.start(session, trigger="clock", dry_run=False, owner=OWNER)
    with connect_to(url) as connection:
        connection.exec_driver_sql(EXPIRE)

    def should_stop() -> bool:
        clock.seconds += GRACE_SECONDS * stops[-1]
        return stops[-1]

    heartbeat = Heartbeat(
        run.id,
        OWNER,
        should_stop=should_stop,
        monotonic=clock,
        poll_seconds=0.01,
    )
    with heartbeat:
        yield heartbeat


def abandon_run(url: str) -> None:
    """Mark the run as abandoned, as another process does after its lease has ended."""
    with connect_to(url) as connection:
        connection.exec_driver_sql("UPDATE sweep_runs SET status = 'abandoned'")


def status_is(url: str, status: str, owner: str = "") -> bool:
    return count(url, STATUS, status=status, owner=owner) == 1


def test_lease_is_extended_during_a_long_step(heartbeat: Heartbeat, url: str, clock: Clock) -> None:
    with heartbeat.transaction() as session:
        session.execute(text("SELECT 1"))
        before = count(url, RENEWED)
        clock.seconds += BEAT_SECONDS

        assert eventually(lambda: count(url, RENEWED) == 1)

    assert before == 0


def test_lease_is_not_extended_more_often_than_needed(heartbeat: Heartbeat, url: str) -> None:
    heartbeat.beat({})
    with connect_to(url) as connection:
        connection.exec_driver_sql(EXPIRE)

    assert not eventually(lambda: count(url, RENEWED) == 1, seconds=0.2)


def test_sweep_that_hangs_has_no_heartbeat(heartbeat: Heartbeat, url: str, clock: Clock) -> None:
    with capture_logs() as logs:
        clock.seconds += LONGEST_STEP_SECONDS + 1

        assert eventually(lambda: "sweep_hangs" in [line["event"] for line in logs])

    assert count(url, RENEWED) == 0


def test_sweep_that_continues_has_a_heartbeat_again(
    heartbeat: Heartbeat, url: str, clock: Clock
) -> None:
    clock.seconds += LONGEST_STEP_SECONDS + 1

    heartbeat.check()

    assert eventually(lambda: count(url, RENEWED) == 1)


def test_process_that_was_suspended_checks_the_lease_before_its_next_step(
    heartbeat: Heartbeat, url: str, clock: Clock
) -> None:
    abandon_run(url)
    clock.seconds += LEASE.total_seconds()

    with pytest.raises(RunLeaseLostError):
        heartbeat.check()


def test_no_transaction_starts_once_the_lease_is_lost(
    heartbeat: Heartbeat, url: str, clock: Clock
) -> None:
    abandon_run(url)
    clock.seconds += BEAT_SECONDS

    def is_refused() -> bool:
        try:
            with heartbeat.transaction():
                return False
        except RunLeaseLostError:
            return True

    assert eventually(is_refused)


def test_statement_is_cancelled_once_the_lease_is_lost(
    heartbeat: Heartbeat, url: str, clock: Clock
) -> None:
    abandon_run(url)
    clock.seconds += BEAT_SECONDS

    with pytest.raises(RunLeaseLostError) as caught, heartbeat.transaction() as session:
        session.execute(SLEEP)

    assert "canceling statement" in str(caught.value.__context__)


def test_no_step_follows_a_stop_request(heartbeat: Heartbeat, stops: list[bool]) -> None:
    heartbeat.check()
    stops.append(True)

    with pytest.raises(SweepStoppedError):
        heartbeat.check()


def test_stop_request_cancels_a_long_step_and_queues_the_run_again(
    heartbeat: Heartbeat, url: str, stops: list[bool]
) -> None:
    def step() -> None:
        with heartbeat.transaction() as session:
            stops.append(True)
            session.execute(SLEEP)

    with pytest.raises(SweepStoppedError) as caught:
        step()

    assert "canceling statement" in str(caught.value.__context__)
    assert status_is(url, "queued")
    with pytest.raises(SweepStoppedError), heartbeat.transaction():
        pass


def test_heartbeat_is_retried_after_a_database_error(
    heartbeat: Heartbeat, url: str, clock: Clock
) -> None:
    with connect_to(url) as connection:
        connection.exec_driver_sql("ALTER TABLE sweep_runs RENAME TO away")
        with capture_logs() as logs:
            clock.seconds += BEAT_SECONDS
            failed = "sweep_heartbeat_failed"
            assert eventually(lambda: failed in [line["event"] for line in logs])
        connection.exec_driver_sql("ALTER TABLE away RENAME TO sweep_runs")

    assert eventually(lambda: count(url, RENEWED) == 1)


def test_progress_extends_the_lease(heartbeat: Heartbeat, url: str) -> None:
    heartbeat.beat({"scanned": 7})

    assert count(url, f"{RENEWED} AND scanned = 7") == 1
