"""Sweep runs in the database: queue, start, lease, progress, end; one active run at a time.

A run has a lease, which its owner's heartbeat extends. A run with an expired lease is dead, and the
next process that sweeps marks it abandoned. Leases use the database's clock, because the clocks of
the hosts may differ.
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
from models.background import SweepStatus

LEASE = timedelta(seconds=15)  # an owner without a heartbeat for this time counts as dead
ACTIVE = (SweepStatus.QUEUED, SweepStatus.RUNNING)
SCHEDULED, COMMAND = "clock", "cli"  # triggers
# Advisory key: processes check one at a time whether a run is due. The number is used for nothing
# else, also not as the first half of a key (`ADDRESS_LOCKS`, `IMPORT_LOCK`).
DUE_LOCK = 20_253
TOLERANCE = timedelta(seconds=0.5)  # schedulers poll every second and may come slightly early
RETENTION = timedelta(days=30)  # for scheduled runs, of which there is one a minute

# Of a run: its lease has expired; no process works on it; it was started by the schedule.
_IS_DEAD = and_(
    SweepRun.status == SweepStatus.RUNNING,
    or_(SweepRun.heartbeat_at.is_(None), SweepRun.heartbeat_at < func.now() - LEASE),
)
_IS_STALLED = or_(SweepRun.status == SweepStatus.QUEUED, _IS_DEAD)
_IS_SCHEDULED = SweepRun.trigger == SCHEDULED
# When the newest scheduled run was created; the primary key finds it in any table.
_NEWEST_SCHEDULED = (
    select(SweepRun.created_at)
    .where(_IS_SCHEDULED)
    .order_by(SweepRun.id.desc())
    .limit(1)
    .scalar_subquery()
)


class SweepRunningError(Exception):
    """Another run is queued or running; `run_id` is its id."""

    def __init__(self, run_id: int) -> None:
        super().__init__(f"sweep run {run_id} is active")
        self.run_id = run_id


class RunLeaseLostError(Exception):
    """The run has another owner or none; its former owner must stop at once."""


class SweepStoppedError(Exception):
    """This process is stopping during a run; another process continues it."""


def queue(session: Session, *, dry_run: bool, requested_by: int | None) -> SweepRun:
    """Queue a run for the next scheduler; raises SweepRunningError while one is active."""
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
    """Start a run now; raises as `queue` does."""
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
    """Start a scheduled run; returns None if one has started within the interval.

    An advisory lock orders processes that check at the same moment, such as all workers at start.
    Without it one could start a run after another has finished the run that it did not see. Raises
    SweepRunningError.
    """
    session.execute(select(func.pg_advisory_xact_lock(DUE_LOCK)))
    if not is_due(session, interval):
        return None
    return start(session, trigger=SCHEDULED, dry_run=False, owner=owner)


def is_due(session: Session, interval: timedelta) -> bool:
    """Whether no scheduled run of any process has started for nearly an interval."""
    return session.scalars(select(_is_due(interval))).one()


def has_work(session: Session, interval: timedelta) -> bool:
    """Whether a run is due, queued or dead."""
    is_active = exists().where(SweepRun.status.in_(ACTIVE))
    has_run = or_(exists().where(_IS_STALLED), and_(~is_active, _is_due(interval)))
    return session.scalars(select(has_run)).one()


def read_schedule(session: Session) -> tuple[bool, timedelta | None]:
    """Return whether a run is active, and how long ago the newest scheduled one was created."""
    is_active = exists().where(SweepRun.status.in_(ACTIVE))
    age = type_coerce(func.now() - _NEWEST_SCHEDULED, Interval)
    return session.execute(select(is_active, age)).one()


def start_queued(session: Session, *, owner: str, by_command: bool = False) -> SweepRun | None:
    """Take the queued run for `owner`; returns None if there is none or another process took it.

    A command that takes a scheduled run changes its trigger, so that the run leaves nothing out.
    """
    trigger = case((_IS_SCHEDULED, COMMAND), else_=SweepRun.trigger)
    return session.scalars(
        update(SweepRun)
        .where(SweepRun.status == SweepStatus.QUEUED)
        .values(
            status=SweepStatus.RUNNING,
            owner=owner,
            trigger=trigger if by_command else SweepRun.trigger,
            started_at=func.now(),
            heartbeat_at=func.clock_timestamp(),
        )
        .returning(SweepRun)
    ).one_or_none()


def start_for_command(session: Session, *, dry_run: bool, owner: str) -> SweepRun:
    """Take the queued run, even if `dry_run` differs, or start one; raises SweepRunningError."""
    if queued := start_queued(session, owner=owner, by_command=True):
        return queued
    try:
        return start(session, trigger=COMMAND, dry_run=dry_run, owner=owner)
    except SweepRunningError:
        if queued := start_queued(session, owner=owner, by_command=True):  # queued meanwhile
            return queued
        raise


def replace_dead(session: Session, *, owner: str) -> SweepRun | None:
    """Abandon the dead run and start its successor; returns None if no run is dead."""
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
    """Mark the dead run abandoned and return it; None if there is none.

    A run with a locked row is skipped, so that no process waits. Its owner is writing, or is frozen
    and loses its locks when the transaction times out (`core/database.py`).
    """
    free = select(SweepRun.id).where(_IS_DEAD).with_for_update(skip_locked=True)
    dead = session.scalars(
        update(SweepRun)
        .where(SweepRun.id.in_(free))
        .values(status=SweepStatus.ABANDONED, finished_at=func.now())
        .returning(SweepRun)
    ).one_or_none()
    if dead is not None:
        _add_to_totals(session, dead)
    return dead


def report(session: Session, run_id: int, *, owner: str, counts: dict[str, int]) -> None:
    """Write progress and extend the lease; raises RunLeaseLostError for another owner's run."""
    _change_own(session, run_id, owner, **counts)


def release(session: Session, run_id: int, *, owner: str, counts: dict[str, int]) -> None:
    """Return the run to the queue, where its counts continue; raises RunLeaseLostError."""
    queued = {"status": SweepStatus.QUEUED, "owner": None, "started_at": None}
    _change_own(session, run_id, owner, **counts, **queued)


def finish(
    session: Session,
    run_id: int,
    *,
    owner: str,
    counts: dict[str, int],
    sample: list[dict[str, Any]] | None = None,
    error: str | None = None,
) -> None:
    """Write how the run ended; raises RunLeaseLostError if it has another owner."""
    finished = _change_own(
        session,
        run_id,
        owner,
        **counts,
        status=SweepStatus.FAILED if error else SweepStatus.SUCCEEDED,
        error=error,
        sample=sample,
        finished_at=func.clock_timestamp(),
    )
    _add_to_totals(session, finished)


def delete_old(session: Session, now: datetime) -> None:
    """Delete scheduled runs after `RETENTION`; runs by admins and commands are kept."""
    is_old = and_(_IS_SCHEDULED, SweepRun.created_at < now - RETENTION)
    session.execute(delete(SweepRun).where(is_old, SweepRun.status.not_in(ACTIVE)))


@dataclass(frozen=True, slots=True)
class StalledRun:
    """A run that is queued, or whose owner is dead, and for how long."""

    run_id: int
    is_queued: bool
    since: timedelta


def stalled_run(session: Session) -> StalledRun | None:
    """Return the active run that no process works on, if there is one."""
    idle_since = func.coalesce(SweepRun.heartbeat_at, SweepRun.created_at)
    since = type_coerce(func.now() - idle_since, Interval)
    is_queued = SweepRun.status == SweepStatus.QUEUED
    row = session.execute(select(SweepRun.id, is_queued, since).where(_IS_STALLED)).one_or_none()
    return None if row is None else StalledRun(*row)


def _is_due(interval: timedelta) -> ColumnElement[bool]:
    return func.coalesce(func.now() - interval + TOLERANCE >= _NEWEST_SCHEDULED, true())


def _insert(session: Session, **values: object) -> SweepRun:
    """Insert an active run in place of a dead one; raises SweepRunningError."""
    abandon_dead(session)
    run = session.scalars(
        insert(SweepRun).values(**values).on_conflict_do_nothing().returning(SweepRun)
    ).one_or_none()
    if run is not None:
        return run
    active = session.scalar(select(SweepRun.id).where(SweepRun.status.in_(ACTIVE)))
    raise SweepRunningError(active or 0)


def _change_own(session: Session, run_id: int, owned_by: str, **values: object) -> SweepRun:
    """Change a running run, whose heartbeat is now; raises RunLeaseLostError for another owner."""
    is_own = and_(SweepRun.id == run_id, SweepRun.owner == owned_by)
    found = session.scalars(
        update(SweepRun)
        .where(is_own, SweepRun.status == SweepStatus.RUNNING)
        .values(**values, heartbeat_at=func.clock_timestamp())
        .returning(SweepRun),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if found is None:
        raise RunLeaseLostError(f"sweep run {run_id} has another owner")
    return found


def _add_to_totals(session: Session, run: SweepRun) -> None:
    """Add an ended run to the totals, which outlive its row."""
    repaired = 0 if run.dry_run else run.created + run.linked
    total = insert(SweepTotal).values(
        trigger=run.trigger, status=run.status, runs=1, repaired=repaired
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


def read_totals(session: Session) -> tuple[Sequence[SweepTotal], datetime | None]:
    """Return the totals of ended runs by trigger and status, and when the last success ended.

    Dry runs do not count as a success.
    """
    succeeded_at = _last_success(SweepRun.finished_at).scalar_subquery()
    found = select(SweepTotal, succeeded_at).order_by(SweepTotal.trigger, SweepTotal.status)
    rows = session.execute(found).all()
    return [row[0] for row in rows], rows[0][1] if rows else None


def time_since_success(session: Session) -> timedelta | None:
    """Return how long ago the last success ended, by the database's clock."""
    age: timedelta | None = session.scalar(_last_success(func.now() - SweepRun.finished_at))
    return age


def _last_success(value: Any) -> Select[Any]:
    """Select a value of the newest success that is not a dry run."""
    is_success = (SweepRun.status == SweepStatus.SUCCEEDED, ~SweepRun.dry_run)
    return select(value).where(*is_success).order_by(SweepRun.id.desc()).limit(1)
