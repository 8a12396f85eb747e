"""Goals: of one mentee's month, and of all active mentees, with their undoing.

The changes of all are admin jobs in batches. Each changed profile gets an audit event with its
goals before and after; the undo reads these events and restores what has not been changed since.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, Select, func, or_, select
from sqlalchemy.orm import Session

from dashboard.periods import Period
from models import AdminJob, AuditEvent, Mentorado, MetricaMensal, User
from models.people import SimNao
from provisioning import audit, jobs
from provisioning.admin_actions import load_profile_for_update, record_action
from provisioning.audit import Source
from provisioning.jobs import BatchResult

# Columns that begin with meta_; None for a month means the profile's goal.
GoalValues = Mapping[str, int | None]

GOAL_OF = {
    "faturamento": "meta_faturamento",
    "leads": "meta_leads",
    "procedimentos": "meta_procedimentos",
    "posts_feed": "meta_posts",
    "stories": "meta_stories",
}
BATCH_PROFILES = 500  # changed in some ten milliseconds, for which their users wait
IS_ACTIVE = Mentorado.ativo == SimNao.SIM
JOB_ACTION, PROFILE_ACTION, UNDO_ACTION = (
    "goals_of_all",
    "goals_in_bulk",
    "goals_undone",
)  # audit actions
Target = Mentorado | MetricaMensal  # the row with the goals


class MonthNotReportedError(Exception):
    """Goals were set for a month that the mentee has not reported; none is created."""


def set_month_goals(
    session: Session,
    mentorado_id: int,
    period: Period,
    goals: GoalValues,
    *,
    source: Source,
    now: datetime,
) -> None:
    """Set one mentee's goals for a reported month; None means the profile's goal.

    Raises MonthNotReportedError and UnknownMentoradoError.
    """
    profile = load_profile_for_update(session, mentorado_id)
    of_profile = select(MetricaMensal).filter_by(mentorado_id=mentorado_id)
    found = session.scalars(of_profile.filter_by(ano=period.ano, mes=period.mes)).one_or_none()
    if found is None:
        raise MonthNotReportedError
    before, after = write_goals(found, goals, now)
    if after:  # a second submit of the same form changes and records nothing
        month = [period.ano, period.mes]
        record_action(
            session, source, "month_goals", profile=profile, month=month, before=before, after=after
        )


def write_goals(row: Target, goals: GoalValues, now: datetime) -> tuple[GoalValues, GoalValues]:
    """Write the goals that differ from those of the row; return them before and after."""
    before = {n: old for n, value in goals.items() if (old := getattr(row, n)) != value}
    after = {name: goals[name] for name in before}
    for name, value in after.items():
        setattr(row, name, value)
    if after:
        row.updated_at = now
    return before, after


def count_changes(session: Session, month: Period | None, goals: GoalValues) -> int:
    """Return how many profiles the goals would change just now; locks nothing."""
    changing = _changing(select(func.count()).select_from(Mentorado), month, goals)
    return int(session.scalars(changing).one())


def list_changes(
    session: Session, month: Period | None, goals: GoalValues, *, limit: int
) -> Sequence[RowMapping]:
    """Return id, name and goals of the first profiles that the goals would change, by name."""
    columns = (getattr(Mentorado if month is None else MetricaMensal, name) for name in goals)
    changing = _changing(select(Mentorado.id, Mentorado.nome_completo, *columns), month, goals)
    first = changing.order_by(Mentorado.nome_completo).limit(limit)
    return session.execute(first).mappings().all()


def _changing(query: Select[Any], month: Period | None, goals: GoalValues) -> Select[Any]:
    """Limit a query to active profiles whose goals differ; a month must have been reported."""
    model: type[Target] = Mentorado
    if month is not None:
        model = MetricaMensal
        query = query.join(MetricaMensal, MetricaMensal.mentorado_id == Mentorado.id)
        query = query.where(MetricaMensal.ano == month.ano, MetricaMensal.mes == month.mes)
    differs = (getattr(model, name).is_distinct_from(value) for name, value in goals.items())
    return query.where(IS_ACTIVE, or_(*differs))


@dataclass(slots=True)
class GoalsJob:
    """The work of an admin job on goals; `options` are those of the job."""

    options: Mapping[str, Any]
    now: datetime
    batch_size: int = BATCH_PROFILES
    first_tried: int = 0  # the position after the first item of the last batch

    @property
    def month(self) -> Period | None:
        """The month whose goals are set; None for the profile's goals."""
        month = self.options["month"]
        return Period(*month) if month else None

    def skip(self, job: AdminJob) -> BatchResult:
        """Count the first profile of the last batch as refused, and continue after it."""
        job.position = self.first_tried
        job.counts = {**job.counts, "refused": job.counts.get("refused", 0) + 1}
        return BatchResult([], is_last=False)

    def set_goals(
        self,
        session: Session,
        job: AdminJob,
        wanted: Mapping[int, GoalValues],
        expected: Mapping[int, GoalValues] | None = None,
    ) -> list[str]:
        """Set goals by profile, with an audit event each; return the Clerk ids of those affected.

        With `expected`, only goals that have that value are set.
        """
        changed = []
        for profile, row in _lock_rows_with_goals(session, list(wanted), self.month):
            goals = wanted[profile.id]
            if expected is not None:
                seen = expected[profile.id]
                goals = {n: value for n, value in goals.items() if getattr(row, n) == seen[n]}
            before, after = write_goals(row, goals, self.now)
            if not after:
                continue
            if isinstance(row, Mentorado):
                row.edited_at = self.now
            details = {"action": PROFILE_ACTION, "job": str(job.id), "month": self.options["month"]}
            details |= {"before": before, "after": after}
            changed.append((profile.id, profile.user_id, details))
        session.flush()
        audit.record_all(session, jobs.source_of(job), "admin_action", changed)
        job.counts = {**job.counts, "changed": job.counts.get("changed", 0) + len(changed)}
        ids = [mentorado_id for mentorado_id, _, _ in changed]
        affected = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
        return list(session.scalars(affected.where(Mentorado.id.in_(ids))))


@dataclass(slots=True)
class GoalsOfAll(GoalsJob):
    """Sets the goals of all active mentees, by ranges of profile ids.

    With a month it sets the goals of that month for mentees who have reported it, otherwise the
    profile's goals.
    """

    action: str = JOB_ACTION

    def run_batch(self, session: Session, job: AdminJob, size: int) -> BatchResult:
        """Set the goals of the next profiles and add them to the job's counts."""
        goals = self.options["goals"]
        if not job.position:
            job.total = count_changes(session, self.month, goals)
        following = select(Mentorado.id).where(Mentorado.id > job.position)
        following = _changing(following, self.month, goals).order_by(Mentorado.id)
        ids = list(session.scalars(following.limit(size)))
        if not ids:
            return BatchResult([], is_last=True)
        self.first_tried, job.position = ids[0], ids[-1]
        clerk_ids = self.set_goals(session, job, dict.fromkeys(ids, goals))
        job.scanned = job.counts["changed"]
        return BatchResult(clerk_ids, is_last=len(ids) < size)

    def close(self, session: Session, job: AdminJob) -> None:
        """Record the goals and the number of profiles in the audit log."""
        month, after = self.options["month"], dict(self.options["goals"])
        source = jobs.source_of(job)
        record_action(session, source, self.action, month=month, after=after, count=job.scanned)


@dataclass(slots=True)
class GoalsUndo(GoalsJob):
    """Restores the goals which another job has changed.

    The positions count from the first audit event of that job, `first_event` of the options. A goal
    that was changed again since keeps its value.
    """

    action: str = UNDO_ACTION

    def run_batch(self, session: Session, job: AdminJob, size: int) -> BatchResult:
        """Restore the goals of the next profiles and add them to the job's counts."""
        first_event = self.options["first_event"]
        following = _events_of(self.options["undo"], AuditEvent)
        following = following.where(AuditEvent.id >= first_event + job.position)
        if not job.position:
            counted = following.with_only_columns(func.count(), maintain_column_froms=True)
            job.total = session.scalars(counted).one()
        events = list(session.scalars(following.order_by(AuditEvent.id).limit(size)))
        if not events:
            return BatchResult([], is_last=True)
        self.first_tried = events[0].id - first_event + 1
        job.position = events[-1].id - first_event + 1
        details = {event.mentorado_id or 0: event.details or {} for event in events}
        before = {mentorado_id: each["before"] for mentorado_id, each in details.items()}
        after = {mentorado_id: each["after"] for mentorado_id, each in details.items()}
        clerk_ids = self.set_goals(session, job, before, expected=after)
        job.scanned += len(events)
        return BatchResult(clerk_ids, is_last=len(events) < size)

    def close(self, session: Session, job: AdminJob) -> None:
        """Record the number of profiles in the audit log."""
        count, undone_job = job.counts.get("changed", 0), self.options["undo"]
        source = jobs.source_of(job)
        record_action(session, source, self.action, count=count, undone_job=undone_job)


def goals_options(goals: GoalValues, month: Period | None) -> dict[str, Any]:
    """Return the options of a job that sets these goals."""
    return {"month": [month.ano, month.mes] if month else None, "goals": dict(goals)}


def undo_options(session: Session, job: AdminJob) -> dict[str, Any] | None:
    """Return the options of a job that undoes a finished one; None where it has changed nothing."""
    first_event = session.scalars(_events_of(str(job.id), func.min(AuditEvent.id))).one()
    if first_event is None or "undo" in job.options:
        return None
    return {**job.options, "undo": str(job.id), "first_event": first_event}


def goals_job(options: Mapping[str, Any], now: datetime) -> GoalsOfAll | GoalsUndo:
    """Build the work of a job from its options."""
    return GoalsUndo(options, now) if "undo" in options else GoalsOfAll(options, now)


def _events_of(job_id: str, selected: Any) -> Select[Any]:
    """Select from the events of the profiles that a job has changed."""
    return select(selected).where(
        AuditEvent.event == "admin_action",
        AuditEvent.details["action"].astext == PROFILE_ACTION,
        AuditEvent.details["job"].astext == job_id,
    )


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
    of_month = select(MetricaMensal).filter_by(ano=month.ano, mes=month.mes)
    reported = of_month.where(MetricaMensal.mentorado_id.in_([each.id for each in profiles]))
    rows = {row.mentorado_id: row for row in session.scalars(reported)}
    return [(profile, rows[profile.id]) for profile in profiles if profile.id in rows]
