"""The life of a sweep run in the database: one at a time in the whole installation.

Leases are compared on the database's clock, because the hosts' own may disagree.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import SweepRun, SweepTotal
from models.sweep_run import SweepStatus

LEASE = timedelta(seconds=15)  # without a sign of life for so long, the owner counts as dead
ACTIVE = (SweepStatus.QUEUED, SweepStatus.RUNNING)
KEPT = timedelta(days=30)  # the clock's runs: one a minute, and nobody asks for older ones


class SweepRunningError(Exception):
    """Another run is queued or running; `run_id` is its id."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"sweep run {run_id} is active")
        self.run_id = run_id


class LeaseLostError(Exception):
    """The run was given to somebody else; its former owner must stop at once."""


def queue(session: Session, *, dry_run: bool, requested_by: int | None) -> SweepRun:
    """Leave a run for the next clock to pick up; raises SweepRunningError while one is active."""
    return _insert(
        session,
        status=SweepStatus.QUEUED,
        trigger="admin",
        dry_run=dry_run,
        requested_by=requested_by,
    )


def start(session: Session, *, trigger: str, dry_run: bool, owner: str) -> SweepRun:
    """Begin a run at once; raises SweepRunningError while one is active."""
    return _insert(
        session,
        status=SweepStatus.RUNNING,
        trigger=trigger,
        dry_run=dry_run,
        owner=owner,
        started_at=func.now(),
        heartbeat_at=func.now(),
    )


def is_due(session: Session, interval: timedelta) -> bool:
    """Whether no clock, of whatever process, has begun a run for nearly an interval."""
    is_recent = SweepRun.created_at > func.now() - interval * 0.9
    last = select(is_recent).where(SweepRun.trigger == "clock").order_by(SweepRun.id.desc())
    return not session.scalars(last.limit(1)).one_or_none()


def take_queued(session: Session, *, owner: str) -> SweepRun | None:
    """Make the queued run ours, if there is one and nobody was faster."""
    return session.scalars(
        update(SweepRun)
        .where(SweepRun.status == SweepStatus.QUEUED)
        .values(
            status=SweepStatus.RUNNING,
            owner=owner,
            started_at=func.now(),
            heartbeat_at=func.now(),
        )
        .returning(SweepRun)
    ).one_or_none()


def take_over(session: Session, *, owner: str) -> SweepRun | None:
    """Mark the run of a dead owner abandoned and begin its successor, in one step."""
    dead = session.scalars(
        update(SweepRun)
        .where(
            SweepRun.status == SweepStatus.RUNNING,
            or_(SweepRun.heartbeat_at.is_(None), SweepRun.heartbeat_at < func.now() - LEASE),
        )
        .values(status=SweepStatus.ABANDONED, finished_at=func.now())
        .returning(SweepRun)
    ).one_or_none()
    if dead is None:
        return None
    _add_up(session, dead)
    return start(session, trigger=dead.trigger, dry_run=dead.dry_run, owner=owner)


def report(session: Session, run_id: int, *, owner: str, counts: dict[str, int]) -> None:
    """Write progress and a sign of life; raises LeaseLostError when the run is no longer ours."""
    _change_own(session, run_id, owner, **counts, heartbeat_at=func.now())


def release(session: Session, run_id: int, *, owner: str) -> None:
    """Give the run back to the queue, for another process to take up within a second."""
    _change_own(
        session,
        run_id,
        owner,
        status=SweepStatus.QUEUED,
        owner=None,
        started_at=None,
        heartbeat_at=None,
    )


def finish(
    session: Session,
    run_id: int,
    *,
    owner: str,
    counts: dict[str, int],
    sample: list[dict[str, Any]] | None = None,
    error: str | None = None,
) -> None:
    """Close the run; raises LeaseLostError when it is no longer ours."""
    status = SweepStatus.FAILED if error else SweepStatus.SUCCEEDED
    over = _change_own(
        session,
        run_id,
        owner,
        **counts,
        status=status,
        error=error,
        sample=sample,
        heartbeat_at=func.now(),
        finished_at=func.now(),
    )
    _add_up(session, over)


def forget_old(session: Session, now: datetime) -> None:
    """Drop what the clock did long ago; whoever asked for a run finds it for ever."""
    of_the_clock = (SweepRun.trigger == "clock", SweepRun.created_at < now - KEPT)
    session.execute(delete(SweepRun).where(*of_the_clock, SweepRun.status.not_in(ACTIVE)))


def _insert(session: Session, **values: object) -> SweepRun:
    """Insert an active run; the partial unique index decides who is the one."""
    run = session.scalars(
        insert(SweepRun).values(**values).on_conflict_do_nothing().returning(SweepRun)
    ).one_or_none()
    if run is not None:
        return run
    active = session.scalars(select(SweepRun.id).where(SweepRun.status.in_(ACTIVE))).one_or_none()
    raise SweepRunningError(active or 0)


def _change_own(session: Session, run_id: int, our_name: str, **values: object) -> SweepRun:
    ours = (SweepRun.id == run_id, SweepRun.owner == our_name)
    running = SweepRun.status == SweepStatus.RUNNING
    found = session.scalars(
        update(SweepRun).where(*ours, running).values(**values).returning(SweepRun)
    ).one_or_none()
    if found is None:
        raise LeaseLostError(f"sweep run {run_id} belongs to somebody else")
    return found


def _add_up(session: Session, over: SweepRun) -> None:
    """Count a run that is over, for good."""
    repaired = 0 if over.dry_run else over.created + over.linked
    total = insert(SweepTotal).values(
        trigger=over.trigger, status=over.status, runs=1, repaired=repaired
    )
    session.execute(
        total.on_conflict_do_update(
            index_elements=[SweepTotal.trigger, SweepTotal.status],
            set_={
                "runs": SweepTotal.runs + 1,
                "repaired": SweepTotal.repaired + total.excluded.repaired,
            },
        )
    )


def totals(session: Session) -> tuple[Sequence[SweepTotal], datetime | None]:
    """What all runs that are over came to, by trigger and by how they ended, and when the last one
    ended that went well and was not for show.
    """
    succeeded_at = _successes(SweepRun.finished_at).scalar_subquery()
    found = select(SweepTotal, succeeded_at).order_by(SweepTotal.trigger, SweepTotal.status)
    rows = session.execute(found).all()
    return [row[0] for row in rows], rows[0][1] if rows else None


def since_success(session: Session) -> timedelta | None:
    """How long ago the last one ended that went well, by the database's clock."""
    return session.scalars(_successes(func.now() - SweepRun.finished_at)).one_or_none()


def _successes(what: Any) -> Select[Any]:
    """Of the newest real success; found from the end of the table, however long that is."""
    went_well = (SweepRun.status == SweepStatus.SUCCEEDED, ~SweepRun.dry_run)
    return select(what).where(*went_well).order_by(SweepRun.id.desc()).limit(1)
