"""Sweep runs: one at a time, leased, and taken over from the dead."""

from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from models import SweepRun, User
from models.sweep_run import SweepStatus
from sweep import runs
from tests.support.users import NOW

MINE, THEIRS = "host:1:a", "host:2:b"


def started(session: Session, owner: str = MINE, trigger: str = "clock") -> SweepRun:
    return runs.start(session, trigger=trigger, dry_run=False, owner=owner)


def silence(session: Session, run: SweepRun, seconds: int) -> None:
    """Let the owner have been silent for so long."""
    past = func.now() - timedelta(seconds=seconds)
    session.execute(update(SweepRun).where(SweepRun.id == run.id).values(heartbeat_at=past))


def test_second_run_is_refused_while_one_is_active(session: Session) -> None:
    first = started(session)

    with pytest.raises(runs.SweepRunningError) as refusal:
        runs.queue(session, dry_run=False, requested_by=None)

    assert refusal.value.run_id == first.id


def test_finished_run_makes_room_for_the_next(session: Session) -> None:
    first = started(session)
    runs.finish(session, first.id, owner=MINE, counts={"created": 2})

    second = started(session)

    assert (second.id > first.id, second.status) == (True, SweepStatus.RUNNING)


def test_queued_run_is_taken_by_one(session: Session) -> None:
    queued = runs.queue(session, dry_run=True, requested_by=None)

    taken = runs.take_queued(session, owner=MINE)

    assert taken is not None
    assert (taken.id, taken.dry_run, runs.take_queued(session, owner=THEIRS)) == (
        queued.id,
        True,
        None,
    )


def test_run_of_a_dead_owner_is_abandoned_and_begun_anew(session: Session) -> None:
    dead = started(session, THEIRS)
    silence(session, dead, 16)

    successor = runs.take_over(session, owner=MINE)

    assert successor is not None
    assert (successor.owner, successor.trigger) == (MINE, "clock")
    session.refresh(dead)
    assert dead.status == SweepStatus.ABANDONED


def test_successor_is_of_the_same_kind(session: Session) -> None:
    admin = User(clerk_id="user_admin")
    session.add(admin)
    session.flush()  # the run needs the id
    runs.queue(session, dry_run=True, requested_by=admin.id)
    dead = runs.take_queued(session, owner=THEIRS)
    assert dead is not None
    silence(session, dead, 16)

    successor = runs.take_over(session, owner=MINE)

    assert successor is not None
    assert (successor.trigger, successor.dry_run, successor.requested_by) == (
        "admin",
        True,
        admin.id,
    )


def test_dead_run_refuses_no_request(session: Session) -> None:
    dead = started(session, THEIRS)
    silence(session, dead, 16)

    queued = runs.queue(session, dry_run=False, requested_by=None)

    session.refresh(dead)
    assert (dead.status, queued.status) == (SweepStatus.ABANDONED, SweepStatus.QUEUED)


def test_living_run_refuses_a_request(session: Session) -> None:
    run = started(session, THEIRS)
    silence(session, run, 14)

    with pytest.raises(runs.SweepRunningError):
        runs.queue(session, dry_run=False, requested_by=None)


def test_command_takes_a_run_that_is_queued_while_it_looks(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> SweepRun:
        queued = runs.queue(session, dry_run=False, requested_by=None)
        raise runs.SweepRunningError(queued.id)

    monkeypatch.setattr(runs, "start", refused)

    assert runs.claim(session, dry_run=False, owner=MINE).trigger == "admin"


def test_heartbeat_is_of_its_moment_not_of_the_transaction_s(session: Session) -> None:
    run = started(session)
    session.execute(text("SELECT pg_sleep(0.01)"))  # the transaction began before it

    runs.report(session, run.id, owner=MINE, counts={})
    is_newer = session.scalars(select(SweepRun.heartbeat_at > func.now()))

    assert is_newer.one() is True


def test_released_run_tells_since_when_it_waits(session: Session) -> None:
    run = started(session)
    silence(session, run, 600)

    runs.release(session, run.id, owner=MINE)

    blocking = runs.blocking(session)
    assert blocking is not None
    assert (blocking.run_id, blocking.is_queued) == (run.id, True)
    assert blocking.since < timedelta(minutes=1)


def test_run_without_heartbeat_is_in_the_way(session: Session) -> None:
    run = started(session)
    alive = runs.blocking(session)
    silence(session, run, 600)

    blocking = runs.blocking(session)

    assert (alive, blocking) == (None, runs.Blocking(run.id, False, timedelta(seconds=600)))


def test_living_owner_is_left_alone(session: Session) -> None:
    run = started(session, THEIRS)
    silence(session, run, 14)

    assert runs.take_over(session, owner=MINE) is None


@pytest.mark.parametrize("owner", [THEIRS, ""])
def test_nobody_reports_for_another_owner(session: Session, owner: str) -> None:
    run = started(session, MINE)

    with pytest.raises(runs.LeaseLostError):
        runs.report(session, run.id, owner=owner, counts={"scanned": 1})


def test_abandoned_run_can_no_longer_be_finished(session: Session) -> None:
    run = started(session, THEIRS)
    silence(session, run, 60)
    runs.take_over(session, owner=MINE)

    with pytest.raises(runs.LeaseLostError):
        runs.finish(session, run.id, owner=THEIRS, counts={})


def test_progress_is_visible_while_it_runs(session: Session) -> None:
    run = started(session)

    runs.report(session, run.id, owner=MINE, counts={"total": 9, "scanned": 4})

    session.refresh(run)
    assert (run.status, run.total, run.scanned) == (SweepStatus.RUNNING, 9, 4)


def test_failed_run_says_why(session: Session) -> None:
    run = started(session)

    runs.finish(session, run.id, owner=MINE, counts={}, error="OperationalError")

    session.refresh(run)
    assert (run.status, run.error) == (SweepStatus.FAILED, "OperationalError")


def test_clock_is_due_only_after_an_interval(session: Session) -> None:
    minute = timedelta(minutes=1)
    before = runs.is_due(session, minute)
    started(session)

    after = runs.is_due(session, minute)

    assert (before, after) == (True, False)


def test_clock_s_run_is_not_begun_twice_in_an_interval(session: Session) -> None:
    first = runs.start_if_due(session, timedelta(minutes=1), owner=MINE)
    assert first is not None
    runs.finish(session, first.id, owner=MINE, counts={})

    assert runs.start_if_due(session, timedelta(minutes=1), owner=THEIRS) is None


def test_admin_s_run_does_not_delay_the_clock(session: Session) -> None:
    started(session, trigger="admin")

    assert runs.is_due(session, timedelta(minutes=1)) is True


def totals(session: Session) -> dict[tuple[str, str], tuple[int, int]]:
    found, _ = runs.totals(session)
    return {(t.trigger, t.status): (t.runs, t.repaired) for t in found}


def test_what_runs_came_to_is_added_up(session: Session) -> None:
    for error in (None, None, "OperationalError"):
        run = started(session)
        counts = {"created": 2, "linked": 1}
        runs.finish(session, run.id, owner=MINE, counts=counts, error=error)

    assert totals(session) == {("clock", "succeeded"): (2, 6), ("clock", "failed"): (1, 3)}


def test_abandoned_run_counts_with_what_it_had_done(session: Session) -> None:
    run = started(session, owner=THEIRS)
    runs.report(session, run.id, owner=THEIRS, counts={"created": 4})
    silence(session, run, seconds=60)

    runs.take_over(session, owner=MINE)

    assert totals(session) == {("clock", "abandoned"): (1, 4)}


@pytest.mark.parametrize(
    ("trigger", "days", "is_kept"),
    [("clock", 31, False), ("clock", 29, True), ("admin", 400, True)],
)
def test_only_old_runs_of_the_clock_are_forgotten(
    session: Session, trigger: str, days: int, is_kept: bool
) -> None:
    run = SweepRun(status=SweepStatus.SUCCEEDED, trigger=trigger)
    run.created_at = NOW - timedelta(days=days)
    session.add(run)
    session.flush()  # the query that forgets must find it

    runs.delete_old(session, NOW)

    assert bool(session.scalars(select(SweepRun.id)).all()) == is_kept


def test_run_that_is_on_is_never_forgotten(session: Session) -> None:
    run = started(session)
    ages = update(SweepRun).values(created_at=NOW - timedelta(days=99))
    session.execute(ages)

    runs.delete_old(session, NOW)

    assert session.scalars(select(SweepRun.id)).all() == [run.id]


def test_totals_outlive_the_runs(session: Session) -> None:
    run = started(session)
    runs.finish(session, run.id, owner=MINE, counts={"created": 2})
    session.execute(update(SweepRun).values(created_at=NOW - timedelta(days=99)))

    runs.delete_old(session, NOW)

    assert totals(session) == {("clock", "succeeded"): (1, 2)}


def test_table_itself_lets_one_run_be_active(session: Session) -> None:
    started(session)
    active = select(func.count()).where(SweepRun.status.in_(runs.ACTIVE))

    with pytest.raises(runs.SweepRunningError):
        started(session, THEIRS)

    assert session.scalars(active).one() == 1
