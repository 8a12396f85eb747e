"""The life of a sweep run in the database: one at a time in the whole installation.

A run has a lease, which its owner's heartbeat extends; the run of an owner without one is dead, and
the next process that wants to sweep abandons it. Leases are compared on the database's clock,
because the hosts' own may disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Interval,
    Select,
    and_,
    case,
    delete,
    exists,
    func,
    or_,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import SweepRun, SweepTotal
from models.sweep_run import SweepStatus

LEASE = timedelta(seconds=15)  # without a heartbeat for so long, the owner counts as dead
ACTIVE = (SweepStatus.QUEUED, SweepStatus.RUNNING)
CLOCK, BY_COMMAND = "clock", "cli"  # triggers
DUE_LOCK = 20_252  # advisory key: processes that look whether a run is due take turns
SLACK = timedelta(seconds=0.5)  # schedulers look every second: none is skipped by a hair
KEPT = timedelta(days=30)  # the clock's runs: one a minute, and nobody asks for older ones

# Of a run: its owner has not extended the lease in time.
_IS_DEAD = (
    SweepRun.status == SweepStatus.RUNNING,
    or_(SweepRun.heartbeat_at.is_(None), SweepRun.heartbeat_at < func.now() - LEASE),
)


class SweepRunningError(Exception):
    """Another run is queued or running; `run_id` is its id."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"sweep run {run_id} is active")
        self.run_id = run_id


class LeaseLostError(Exception):
    """The run has another owner or none; its former owner must stop at once."""


class SweepStoppedError(Exception):
    """This process was asked to stop in the middle of a run; another one goes on with it."""


def queue(session: Session, *, dry_run: bool, requested_by: int | None) -> SweepRun:
    """Queue a run for the next scheduler, in place of a dead one.

    Raises SweepRunningError while one is queued, or running and alive.
    """
    abandon_dead(session)
    return _insert(
        session,
        status=SweepStatus.QUEUED,
        trigger="admin",
        dry_run=dry_run,
        requested_by=requested_by,
    )


def start(
    session: Session,
    *,
    trigger: str,
    dry_run: bool,
    owner: str,
    requested_by: int | None = None,
) -> SweepRun:
    """Begin a run at once, in place of a dead one; raises as `queue` does."""
    abandon_dead(session)
    return _insert(
        session,
        status=SweepStatus.RUNNING,
        trigger=trigger,
        dry_run=dry_run,
        requested_by=requested_by,
        owner=owner,
        started_at=func.now(),
        heartbeat_at=func.clock_timestamp(),
    )


def start_if_due(session: Session, interval: timedelta, *, owner: str) -> SweepRun | None:
    """Begin a scheduler's run unless one was begun within an interval; None where there was.

    Processes that look at the same moment, such as all workers of a server that starts, take turns:
    otherwise one could begin a run after another has finished the one it did not see. Raises
    SweepRunningError.
    """
    session.execute(select(func.pg_advisory_xact_lock(DUE_LOCK)))
    if not is_due(session, interval):
        return None
    return start(session, trigger=CLOCK, dry_run=False, owner=owner)


def is_due(session: Session, interval: timedelta) -> bool:
    """Whether no scheduler, of whatever process, has begun a run for nearly an interval."""
    return session.scalars(select(_is_due(interval))).one()


def has_work(session: Session, interval: timedelta) -> bool:
    """Whether there is a run for a scheduler to begin, to take or to take over."""
    status = SweepRun.status
    is_active = exists().where(status.in_(ACTIVE))
    is_queued = exists().where(status == SweepStatus.QUEUED)
    is_dead = exists().where(*_IS_DEAD)
    work = or_(is_queued, is_dead, and_(~is_active, _is_due(interval)))
    return session.scalars(select(work)).one()


def take_queued(session: Session, *, owner: str, by_hand: bool = False) -> SweepRun | None:
    """Make the queued run ours, if there is one and no other process was faster.

    A command that takes a scheduler's run makes it its own: it leaves nothing out.
    """
    trigger = case((SweepRun.trigger == CLOCK, BY_COMMAND), else_=SweepRun.trigger)
    return session.scalars(
        update(SweepRun)
        .where(SweepRun.status == SweepStatus.QUEUED)
        .values(
            status=SweepStatus.RUNNING,
            owner=owner,
            trigger=trigger if by_hand else SweepRun.trigger,
            started_at=func.now(),
            heartbeat_at=func.clock_timestamp(),
        )
        .returning(SweepRun)
    ).one_or_none()


def claim(session: Session, *, dry_run: bool, owner: str) -> SweepRun:
    """Take the queued run for a command, which may differ in `dry_run`, or begin one for it.

    Raises SweepRunningError while one is running and alive.
    """
    queued = take_queued(session, owner=owner, by_hand=True)
    if queued is not None:
        return queued
    try:
        return start(session, trigger=BY_COMMAND, dry_run=dry_run, owner=owner)
    except SweepRunningError:
        queued = take_queued(session, owner=owner, by_hand=True)  # it came just now
        if queued is None:
            raise
        return queued


def take_over(session: Session, *, owner: str) -> SweepRun | None:
    """Abandon the run of a dead owner and begin its successor, in one step; None where all live."""
    dead = abandon_dead(session)
    if dead is None:
        return None
    return start(
        session,
        trigger=dead.trigger,
        dry_run=dead.dry_run,
        requested_by=dead.requested_by,
        owner=owner,
    )


def abandon_dead(session: Session) -> SweepRun | None:
    """Mark the run of a dead owner abandoned and return it, if there is one.

    A run whose row is locked is left for the next look, so that no process waits: its owner is just
    writing, or has frozen and loses its locks soon (`connections.opening`).
    """
    free = select(SweepRun.id).where(*_IS_DEAD).with_for_update(skip_locked=True)
    dead = session.scalars(
        update(SweepRun)
        .where(SweepRun.id.in_(free))
        .values(status=SweepStatus.ABANDONED, finished_at=func.now())
        .returning(SweepRun)
    ).one_or_none()
    if dead is not None:
        _add_up(session, dead)
    return dead


def beat(session: Session, run_id: int, *, owner: str) -> None:
    """Extend the lease; raises LeaseLostError when the run is no longer ours."""
    _change_own(session, run_id, owner, heartbeat_at=func.clock_timestamp())


def report(session: Session, run_id: int, *, owner: str, counts: dict[str, int]) -> None:
    """Write progress and extend the lease; raises LeaseLostError when the run is no longer ours.

    The heartbeat is of this moment, not of when a long transaction began.
    """
    _change_own(session, run_id, owner, **counts, heartbeat_at=func.clock_timestamp())


def release(
    session: Session, run_id: int, *, owner: str, counts: dict[str, int] | None = None
) -> None:
    """Give the run back to the queue, for another process to take up within a second.

    It goes on counting from here; the heartbeat tells since when the run waits. Raises
    LeaseLostError.
    """
    _change_own(
        session,
        run_id,
        owner,
        **(counts or {}),
        status=SweepStatus.QUEUED,
        owner=None,
        started_at=None,
        heartbeat_at=func.clock_timestamp(),
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
        heartbeat_at=func.clock_timestamp(),
        finished_at=func.clock_timestamp(),
    )
    _add_up(session, over)


def delete_old(session: Session, now: datetime) -> None:
    """Drop what the clock did long ago; whoever asked for a run finds it for ever."""
    of_the_clock = (SweepRun.trigger == CLOCK, SweepRun.created_at < now - KEPT)
    session.execute(delete(SweepRun).where(*of_the_clock, SweepRun.status.not_in(ACTIVE)))


@dataclass(frozen=True, slots=True)
class Blocking:
    """A queued run that no process takes, or a run whose owner is dead, and since how long."""

    run_id: int
    is_queued: bool
    since: timedelta


def blocking(session: Session) -> Blocking | None:
    """The active run that no process works on just now, if there is one."""
    begun = func.coalesce(SweepRun.heartbeat_at, SweepRun.created_at)
    since = type_coerce(func.now() - begun, Interval)
    is_queued = SweepRun.status == SweepStatus.QUEUED
    found = select(SweepRun.id, is_queued, since).where(or_(is_queued, and_(*_IS_DEAD)))
    row = session.execute(found).one_or_none()
    return None if row is None else Blocking(*row)


def _is_due(interval: timedelta) -> ColumnElement[bool]:
    """Found from the end of the table, however long that is."""
    last = select(SweepRun.created_at).where(SweepRun.trigger == CLOCK)
    begun_at = last.order_by(SweepRun.id.desc()).limit(1).scalar_subquery()
    return func.coalesce(begun_at <= func.now() - interval + SLACK, true())


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
        raise LeaseLostError(f"sweep run {run_id} has another owner")
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
