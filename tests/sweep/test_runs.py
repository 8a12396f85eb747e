"""Sweep runs: one active run, held by a lease, taken over after the lease has ended."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import NullPool, create_engine, func, select, text, update
from sqlalchemy.orm import Session

from benchmarks.databases import hold_locks
from models import SweepRun, User
from models.background import SweepStatus
from sweep import runs
from tests.support.databases import is_blocked_eventually
from tests.support.users import NOW

OWNER, OTHER_OWNER = "host:1:a", "host:2:b"


def start(session: Session, owner: str = OWNER, trigger: str = "clock") -> SweepRun:
    return runs.start(session, trigger=trigger, dry_run=False, owner=owner)


def age_heartbeat(session: Session, run: SweepRun, seconds: int) -> None:
    """Move the last heartbeat of the run into the past."""
    past = func.now() - timedelta(seconds=seconds)
    session.execute(update(SweepRun).where(SweepRun.id == run.id).values(heartbeat_at=past))


def test_second_run_is_refused_while_one_is_active(session: Session) -> None:
    first = start(session)

    with pytest.raises(runs.SweepRunningError) as error:
        runs.queue(session, dry_run=False, requested_by=None)

    assert error.value.run_id == first.id


def test_next_run_can_start_after_a_finished_one(session: Session) -> None:
    first = start(session)
    runs.finish(session, first.id, owner=OWNER, counts={"created": 2})

    second = start(session)

    assert (second.id > first.id, second.status) == (True, SweepStatus.RUNNING)


def test_queued_run_is_claimed_once(session: Session) -> None:
    queued = runs.queue(session, dry_run=True, requested_by=None)

    claimed = runs.start_queued(session, owner=OWNER)

    assert claimed is not None
    assert (claimed.id, claimed.dry_run, runs.start_queued(session, owner=OTHER_OWNER)) == (
        queued.id,
        True,
        None,
    )


def test_run_with_an_expired_lease_is_abandoned_and_restarted(session: Session) -> None:
    expired = start(session, OTHER_OWNER)
    age_heartbeat(session, expired, 16)

    successor = runs.replace_dead(session, owner=OWNER)

    assert successor is not None
    assert (successor.owner, successor.trigger) == (OWNER, "clock")
    session.refresh(expired)
    assert expired.status == SweepStatus.ABANDONED


def test_restarted_run_keeps_trigger_dry_run_and_requester(session: Session) -> None:
    admin = User(clerk_id="user_admin")
    session.add(admin)
    session.flush()
    runs.queue(session, dry_run=True, requested_by=admin.id)
    expired = runs.start_queued(session, owner=OTHER_OWNER)
    assert expired is not None
    age_heartbeat(session, expired, 16)

    successor = runs.replace_dead(session, owner=OWNER)

    assert successor is not None
    assert (successor.trigger, successor.dry_run, successor.requested_by) == (
        "admin",
        True,
        admin.id,
    )


def test_run_with_an_expired_lease_does_not_block_a_request(session: Session) -> None:
    expired = start(session, OTHER_OWNER)
    age_heartbeat(session, expired, 16)

    queued = runs.queue(session, dry_run=False, requested_by=None)

    session.refresh(expired)
    assert (expired.status, queued.status) == (SweepStatus.ABANDONED, SweepStatus.QUEUED)


def test_run_with_a_valid_lease_blocks_a_request(session: Session) -> None:
    run = start(session, OTHER_OWNER)
    age_heartbeat(session, run, 14)

    with pytest.raises(runs.SweepRunningError):
        runs.queue(session, dry_run=False, requested_by=None)


def test_command_claims_a_run_that_is_queued_concurrently(url: str) -> None:
    queueing = "INSERT INTO sweep_runs (status, trigger) VALUES ('queued', 'admin')"

    def claim() -> str:
        with Session(create_engine(url, poolclass=NullPool)) as session:
            return runs.start_for_command(session, dry_run=False, owner=OWNER).trigger

    with hold_locks(url, queueing) as admin_transaction, ThreadPoolExecutor(1) as pool:
        claimed = pool.submit(claim)
        assert is_blocked_eventually(url)
        admin_transaction.commit()

        assert claimed.result(timeout=10) == "admin"


def test_heartbeat_has_the_time_of_its_statement_not_of_the_transaction(session: Session) -> None:
    run = start(session)
    session.execute(text("SELECT pg_sleep(0.01)"))  # later than the start of the transaction

    runs.report(session, run.id, owner=OWNER, counts={})
    is_newer = session.scalars(select(SweepRun.heartbeat_at > func.now()))

    assert is_newer.one() is True


def test_released_run_blocks_as_queued_since_its_release(session: Session) -> None:
    run = start(session)
    age_heartbeat(session, run, 600)

    runs.release(session, run.id, owner=OWNER, counts={})

    blocking = runs.stalled_run(session)
    assert blocking is not None
    assert (blocking.run_id, blocking.is_queued) == (run.id, True)
    assert blocking.since < timedelta(minutes=1)


def test_run_without_heartbeat_is_reported_as_blocking(session: Session) -> None:
    run = start(session)
    before = runs.stalled_run(session)
    age_heartbeat(session, run, 600)

    blocking = runs.stalled_run(session)

    assert (before, blocking) == (None, runs.StalledRun(run.id, False, timedelta(seconds=600)))


def test_run_with_a_valid_lease_is_not_taken_over(session: Session) -> None:
    run = start(session, OTHER_OWNER)
    age_heartbeat(session, run, 14)

    assert runs.replace_dead(session, owner=OWNER) is None


@pytest.mark.parametrize("owner", [OTHER_OWNER, ""])
def test_report_of_another_owner_raises_lease_lost(session: Session, owner: str) -> None:
    run = start(session, OWNER)

    with pytest.raises(runs.RunLeaseLostError):
        runs.report(session, run.id, owner=owner, counts={"scanned": 1})


def test_abandoned_run_cannot_be_finished(session: Session) -> None:
    run = start(session, OTHER_OWNER)
    age_heartbeat(session, run, 60)
    runs.replace_dead(session, owner=OWNER)

    with pytest.raises(runs.RunLeaseLostError):
        runs.finish(session, run.id, owner=OTHER_OWNER, counts={})


def test_progress_is_visible_while_it_runs(session: Session) -> None:
    run = start(session)

    runs.report(session, run.id, owner=OWNER, counts={"total": 9, "scanned": 4})

    session.refresh(run)
    assert (run.status, run.total, run.scanned) == (SweepStatus.RUNNING, 9, 4)


def test_failed_run_stores_the_error(session: Session) -> None:
    run = start(session)

    runs.finish(session, run.id, owner=OWNER, counts={}, error="OperationalError")

    session.refresh(run)
    assert (run.status, run.error) == (SweepStatus.FAILED, "OperationalError")


def test_scheduled_run_is_due_only_after_an_interval(session: Session) -> None:
    minute = timedelta(minutes=1)
    before = runs.is_due(session, minute)
    start(session)

    after = runs.is_due(session, minute)

    assert (before, after) == (True, False)


def test_scheduled_run_starts_once_in_an_interval(session: Session) -> None:
    first = runs.start_if_due(session, timedelta(minutes=1), owner=OWNER)
    assert first is not None
    runs.finish(session, first.id, owner=OWNER, counts={})

    assert runs.start_if_due(session, timedelta(minutes=1), owner=OTHER_OWNER) is None


def test_run_of_an_admin_does_not_delay_the_scheduled_one(session: Session) -> None:
    start(session, trigger="admin")

    assert runs.is_due(session, timedelta(minutes=1)) is True


def totals(session: Session) -> dict[tuple[str, str], tuple[int, int]]:
    found, _ = runs.read_totals(session)
    return {(t.trigger, t.status): (t.runs, t.repaired) for t in found}


def test_totals_sum_up_the_counts_of_runs(session: Session) -> None:
    for error in (None, None, "OperationalError"):
        run = start(session)
        counts = {"created": 2, "linked": 1}
        runs.finish(session, run.id, owner=OWNER, counts=counts, error=error)

    assert totals(session) == {("clock", "succeeded"): (2, 6), ("clock", "failed"): (1, 3)}


def test_totals_include_the_counts_of_an_abandoned_run(session: Session) -> None:
    run = start(session, owner=OTHER_OWNER)
    runs.report(session, run.id, owner=OTHER_OWNER, counts={"created": 4})
    age_heartbeat(session, run, seconds=60)

    runs.replace_dead(session, owner=OWNER)

    assert totals(session) == {("clock", "abandoned"): (1, 4)}


@pytest.mark.parametrize(
    ("trigger", "days", "is_kept"),
    [("clock", 31, False), ("clock", 29, True), ("admin", 400, True)],
)
def test_only_old_scheduled_runs_are_deleted(
    session: Session, trigger: str, days: int, is_kept: bool
) -> None:
    run = SweepRun(status=SweepStatus.SUCCEEDED, trigger=trigger)
    run.created_at = NOW - timedelta(days=days)
    session.add(run)
    session.flush()

    runs.delete_old(session, NOW)

    assert bool(session.scalars(select(SweepRun.id)).all()) == is_kept


def test_active_run_is_never_deleted(session: Session) -> None:
    run = start(session)
    move_back = update(SweepRun).values(created_at=NOW - timedelta(days=99))
    session.execute(move_back)

    runs.delete_old(session, NOW)

    assert session.scalars(select(SweepRun.id)).all() == [run.id]


def test_totals_include_deleted_runs(session: Session) -> None:
    run = start(session)
    runs.finish(session, run.id, owner=OWNER, counts={"created": 2})
    session.execute(update(SweepRun).values(created_at=NOW - timedelta(days=99)))

    runs.delete_old(session, NOW)

    assert totals(session) == {("clock", "succeeded"): (1, 2)}


def test_second_active_run_violates_the_unique_index(session: Session) -> None:
    start(session)
    active = select(func.count()).where(SweepRun.status.in_(runs.ACTIVE))

    with pytest.raises(runs.SweepRunningError):
        start(session, OTHER_OWNER)

    assert session.scalars(active).one() == 1
