"""Goals of all active mentees: who would change, the change in batches, and its undoing.

Both are admin jobs. Each changed profile gets an audit event with its goals before and after; the
undo reads these events and restores what has not been changed again since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session

from dashboard.mentoring import GoalValues, write_goals
from dashboard.periods import Period
from models import AdminJob, AuditEvent, Mentorado, MetricaMensal, User
from models.people import SimNao
from provisioning import audit, jobs
from provisioning.admin_actions import record_action
from provisioning.jobs import Step

BATCH_PROFILES = 500  # changed in some ten milliseconds, for which their users wait
IS_ACTIVE = Mentorado.ativo == SimNao.SIM
OF_ALL, OF_ONE, UNDONE = "goals_of_all", "goals_in_bulk", "goals_undone"  # audit actions
Target = Mentorado | MetricaMensal  # the row with the goals


@dataclass(frozen=True, slots=True)
class AffectedProfile:
    """A profile whose goals would change: its name, and its goals before by column."""

    mentorado_id: int
    name: str
    before: Mapping[str, int | None]


def count_changes(session: Session, month: Period | None, goals: GoalValues) -> int:
    """Return how many profiles the goals would change just now; locks nothing."""
    changing = _changing(select(func.count()).select_from(Mentorado), month, goals)
    return int(session.scalars(changing).one())


def list_changes(
    session: Session, month: Period | None, goals: GoalValues, *, limit: int
) -> list[AffectedProfile]:
    """Return the first profiles that the goals would change, by name."""
    model = Mentorado if month is None else MetricaMensal
    names = list(goals)
    columns = (getattr(model, name) for name in names)
    changing = _changing(select(Mentorado.id, Mentorado.nome_completo, *columns), month, goals)
    rows = session.execute(changing.order_by(Mentorado.nome_completo).limit(limit))
    return [AffectedProfile(row[0], row[1], dict(zip(names, row[2:], strict=True))) for row in rows]


def _changing(query: Select[Any], month: Period | None, goals: GoalValues) -> Select[Any]:
    """Limit a query to active profiles whose goals differ; a month must have been reported."""
    if month is None:
        return query.where(IS_ACTIVE, _differs(Mentorado, goals))
    reported = query.join(MetricaMensal, MetricaMensal.mentorado_id == Mentorado.id)
    is_month = (MetricaMensal.ano == month.ano, MetricaMensal.mes == month.mes)
    return reported.where(IS_ACTIVE, *is_month, _differs(MetricaMensal, goals))


def _differs(model: type[Target], goals: GoalValues) -> ColumnElement[bool]:
    return or_(*(getattr(model, name).is_distinct_from(value) for name, value in goals.items()))


@dataclass(slots=True)
class GoalsOfAll:
    """The work of an admin job that sets the goals of all active mentees, by ranges of profile ids.

    With a month it sets the goals of that month for mentees who have reported it, otherwise the
    standing goals.
    """

    month: Period | None
    goals: GoalValues
    now: datetime
    batch_size: int = BATCH_PROFILES
    action: str = OF_ALL
    first_tried: int = 0  # the id of the first profile of the last batch

    def step(self, session: Session, job: AdminJob, size: int) -> Step:
        """Set the goals of the next profiles and add them to the job's counts."""
        if not job.position:
            job.total = count_changes(session, self.month, self.goals)
        following = select(Mentorado.id).where(Mentorado.id > job.position)
        following = _changing(following, self.month, self.goals)
        ids = list(session.scalars(following.order_by(Mentorado.id).limit(size)))
        if not ids:
            return Step([], is_last=True)
        self.first_tried = ids[0]
        wanted = dict.fromkeys(ids, self.goals)
        changed = _set_goals(session, job, self.month, wanted, now=self.now)
        job.position = ids[-1]
        job.scanned += len(changed)
        job.counts = {**job.counts, "changed": job.scanned}
        return Step(_clerk_ids(session, changed), is_last=len(ids) < size)

    def skip(self, job: AdminJob) -> Step:
        """Count the first profile of the last batch as refused, and continue after it."""
        job.position = self.first_tried
        return _count_refused(job)

    def close(self, session: Session, job: AdminJob) -> None:
        """Record the goals and the number of profiles in the audit log."""
        record_action(
            session,
            jobs.source_of(job),
            self.action,
            month=_stored(self.month),
            after=dict(self.goals),
            count=job.scanned,
        )


@dataclass(slots=True)
class GoalsUndo:
    """The work of an admin job that restores the goals which another job has changed.

    `first_event` is the id of the first audit event of that job; the position counts from there. A
    goal that was changed again since keeps its value.
    """

    month: Period | None
    undone_job: str
    first_event: int
    now: datetime
    batch_size: int = BATCH_PROFILES
    action: str = UNDONE
    first_tried: int = 0  # the position of the first event of the last batch

    def step(self, session: Session, job: AdminJob, size: int) -> Step:
        """Restore the goals of the next profiles and add them to the job's counts."""
        following = _events_of(self.undone_job).where(
            AuditEvent.id >= self.first_event + job.position
        )
        if not job.position:
            counted = following.with_only_columns(func.count(), maintain_column_froms=True)
            job.total = session.scalars(counted).one()
        events = list(session.scalars(following.order_by(AuditEvent.id).limit(size)))
        if not events:
            return Step([], is_last=True)
        self.first_tried = events[0].id - self.first_event + 1
        details = {event.mentorado_id: event.details or {} for event in events}
        changed = _set_goals(
            session,
            job,
            self.month,
            {number: each["before"] for number, each in details.items() if number is not None},
            expected={number: each["after"] for number, each in details.items()},
            now=self.now,
        )
        job.position = events[-1].id - self.first_event + 1
        job.scanned += len(events)
        restored = job.counts.get("changed", 0) + len(changed)
        job.counts = {**job.counts, "changed": restored}
        return Step(_clerk_ids(session, changed), is_last=len(events) < size)

    def skip(self, job: AdminJob) -> Step:
        """Count the first profile of the last batch as refused, and continue after it."""
        job.position = self.first_tried
        return _count_refused(job)

    def close(self, session: Session, job: AdminJob) -> None:
        """Record the number of profiles in the audit log."""
        count = job.counts.get("changed", 0)
        record_action(
            session, jobs.source_of(job), self.action, count=count, undone_job=self.undone_job
        )


def goals_options(goals: GoalValues, month: Period | None) -> dict[str, Any]:
    """Return the options of a job that sets these goals."""
    return {"month": _stored(month), "goals": dict(goals)}


def undo_options(session: Session, job: AdminJob) -> dict[str, Any] | None:
    """Return the options of a job that undoes a finished one; None where it has changed nothing."""
    first = _events_of(str(job.id)).with_only_columns(
        func.min(AuditEvent.id), maintain_column_froms=True
    )
    first_event = session.scalars(first).one()
    if first_event is None or "undo" in job.options:
        return None
    return {**job.options, "undo": str(job.id), "first_event": first_event}


def month_of(options: Mapping[str, Any]) -> Period | None:
    """Return the month of a job's options; None for the standing goals."""
    month = options["month"]
    return Period(*month) if month else None


def _stored(month: Period | None) -> list[int] | None:
    return [month.ano, month.mes] if month else None


def goals_of_all(options: Mapping[str, Any], now: datetime) -> GoalsOfAll | GoalsUndo:
    """Build the work of a job from its options."""
    if "undo" in options:
        return GoalsUndo(month_of(options), options["undo"], options["first_event"], now)
    return GoalsOfAll(month_of(options), options["goals"], now)


def _events_of(job_id: str) -> Select[AuditEvent]:
    """Return a query of the events of the profiles that a job has changed."""
    return select(AuditEvent).where(
        AuditEvent.event == "admin_action",
        AuditEvent.details["action"].astext == OF_ONE,
        AuditEvent.details["job"].astext == job_id,
    )


def _set_goals(
    session: Session,
    job: AdminJob,
    month: Period | None,
    wanted: Mapping[int, GoalValues],
    *,
    expected: Mapping[int | None, GoalValues] | None = None,
    now: datetime,
) -> list[int]:
    """Set goals by profile, with an audit event each; return the ids of the changed profiles.

    With `expected`, only goals that have that value are set.
    """
    changed = []
    for profile, row in _lock_rows_with_goals(session, list(wanted), month):
        goals = wanted[profile.id]
        if expected is not None:
            seen = expected[profile.id]
            goals = {n: value for n, value in goals.items() if getattr(row, n) == seen[n]}
        before, after = write_goals(row, goals, now)
        if not after:
            continue
        if isinstance(row, Mentorado):
            row.edited_at = now
        details = {"action": OF_ONE, "job": str(job.id), "month": _stored(month)}
        changed.append((profile, {**details, "before": before, "after": after}))
    session.flush()
    audit.record_all(
        session,
        jobs.source_of(job),
        "admin_action",
        [(profile.id, profile.user_id, details) for profile, details in changed],
    )
    return [profile.id for profile, _ in changed]


def _lock_rows_with_goals(
    session: Session, mentorado_ids: Sequence[int], month: Period | None
) -> list[tuple[Mentorado, Target]]:
    """Lock the active profiles; return each with the row that has its goals.

    A profile that has not reported the month is left out. Owners are locked before profiles, both
    by id, as in every change of a profile.
    """
    session.execute(jobs.SHORT_LOCK_WAIT)
    owners = select(User.id).join(Mentorado, Mentorado.user_id == User.id)
    owners = owners.where(Mentorado.id.in_(mentorado_ids)).order_by(User.id)
    session.execute(owners.with_for_update(of=User, key_share=True))
    these = select(Mentorado).where(Mentorado.id.in_(mentorado_ids), IS_ACTIVE)
    profiles = session.scalars(
        these.order_by(Mentorado.id).with_for_update(key_share=True),
        execution_options={"populate_existing": True},
    ).all()
    if month is None:
        return [(profile, profile) for profile in profiles]
    reported = select(MetricaMensal).where(
        MetricaMensal.mentorado_id.in_([profile.id for profile in profiles]),
        MetricaMensal.ano == month.ano,
        MetricaMensal.mes == month.mes,
    )
    rows = {row.mentorado_id: row for row in session.scalars(reported)}
    return [(profile, rows[profile.id]) for profile in profiles if profile.id in rows]


def _clerk_ids(session: Session, mentorado_ids: Sequence[int]) -> list[str]:
    affected = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
    return list(session.scalars(affected.where(Mentorado.id.in_(mentorado_ids))))


def _count_refused(job: AdminJob) -> Step:
    job.counts = {**job.counts, "refused": job.counts.get("refused", 0) + 1}
    return Step([], is_last=False)
