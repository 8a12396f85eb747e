"""Writes by the mentoring team: goals of a month, standing goals, and monthly feedback."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import AdminJob, Feedback, Mentorado, MetricaMensal, User
from models.columns import SimNao
from provisioning import jobs
from provisioning.admin_actions import load_profile_for_update, record_action
from provisioning.audit import Source
from provisioning.jobs import Step

Month = tuple[int, int]  # year and month
Texts = Mapping[str, str]  # the texts of a feedback by column, blank if there is none
# Columns that begin with meta_; None for a month means the standing goal.
Goals = Mapping[str, int | None]

BATCH_PROFILES = 500  # changed in some ten milliseconds, for which their users wait
IS_ACTIVE = Mentorado.ativo == SimNao.SIM


class MonthNotReportedError(Exception):
    """Goals were set for a month that the mentee has not reported; none is created."""


class EditConflictError(Exception):
    """Another request has changed the feedback since its form was read."""


def set_month_goals(
    session: Session,
    mentorado_id: int,
    month: Month,
    goals: Goals,
    *,
    source: Source,
    now: datetime,
) -> None:
    """Set one mentee's goals for a reported month.

    Raises MonthNotReportedError and UnknownMentoradoError.
    """
    profile = load_profile_for_update(session, mentorado_id)
    reported = select(MetricaMensal).where(MetricaMensal.mentorado_id == mentorado_id)
    found = session.scalars(reported.where(*_is_month(month))).one_or_none()
    if found is None:
        raise MonthNotReportedError
    if all(getattr(found, name) == value for name, value in goals.items()):
        return  # a second submit of the same form changes and records nothing
    _write_month_goals(session, [mentorado_id], month, goals, now)
    record_action(
        session, source, "month_goals", profile=profile, month=list(month), after=dict(goals)
    )


def count_goals_of_all(session: Session, month: Month | None) -> int:
    """Return how many `GoalsOfAll` would change just now; locks nothing."""
    if month is None:
        return session.scalars(select(func.count()).select_from(Mentorado).where(IS_ACTIVE)).one()
    reported = select(func.count()).select_from(MetricaMensal).join(Mentorado)
    return session.scalars(reported.where(IS_ACTIVE, *_is_month(month))).one()


@dataclass(slots=True)
class GoalsOfAll:
    """The work of an admin job that sets the goals of all active mentees, in ranges of profile ids.

    With a month it sets the goals of that month for mentees who have reported it, otherwise the
    standing goals.
    """

    month: Month | None
    goals: Goals
    now: datetime
    batch_size: int = BATCH_PROFILES
    action: str = "goals_of_all"
    first_tried: int = 0  # the id of the first profile of the last batch

    def step(self, session: Session, job: AdminJob, size: int) -> Step:
        """Set the goals of the next profiles and add them to the job's counts.

        Locks owners before profiles, both by id, as every change of a profile does.
        """
        if not job.position:
            job.total = count_goals_of_all(session, self.month)
        profiles = self._next(session, job, size)
        if not profiles:
            return Step([], is_last=True)
        self.first_tried = profiles[0]
        session.execute(jobs.SHORT_LOCK_WAIT)
        owners = select(User.id).join(Mentorado, Mentorado.user_id == User.id)
        owners = owners.where(Mentorado.id.in_(profiles)).order_by(User.id)
        session.execute(owners.with_for_update(of=User, key_share=True))
        changed = self._write(session, profiles)
        job.position = profiles[-1]
        job.scanned += len(changed)
        job.counts = {**job.counts, "changed": job.scanned}
        affected = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
        clerk_ids = session.scalars(affected.where(Mentorado.id.in_(changed)))
        return Step(list(clerk_ids), is_last=len(profiles) < size)

    def skip(self, job: AdminJob) -> Step:
        """Count the first profile of the last batch as refused, and continue after it."""
        job.position = self.first_tried
        job.counts = {**job.counts, "refused": job.counts.get("refused", 0) + 1}
        return Step([], is_last=False)

    def close(self, session: Session, job: AdminJob) -> None:
        """Record the goals and the number of profiles in the audit log."""
        record_action(
            session,
            jobs.source_of(job),
            self.action,
            month=list(self.month) if self.month else None,
            after=dict(self.goals),
            count=job.scanned,
        )

    def _next(self, session: Session, job: AdminJob, size: int) -> list[int]:
        """Return the ids of the next active profiles."""
        following = select(Mentorado.id).where(Mentorado.id > job.position, IS_ACTIVE)
        return list(session.scalars(following.order_by(Mentorado.id).limit(size)))

    def _write(self, session: Session, profiles: list[int]) -> list[int]:
        these = select(Mentorado.id).where(Mentorado.id.in_(profiles), IS_ACTIVE)
        active = list(session.scalars(these.order_by(Mentorado.id).with_for_update(key_share=True)))
        if self.month is not None:
            return _write_month_goals(session, active, self.month, self.goals, self.now)
        session.execute(
            update(Mentorado)
            .where(Mentorado.id.in_(active))
            .values(**self.goals, edited_at=self.now, updated_at=self.now)
            .execution_options(synchronize_session=False)
        )
        return active


def goals_options(goals: Goals, month: Month | None) -> dict[str, Any]:
    """Return the options of a job that sets these goals."""
    return {"month": list(month) if month else None, "goals": dict(goals)}


def month_of(options: Mapping[str, Any]) -> Month | None:
    """Return the month of a job's options; None for the standing goals."""
    month = options["month"]
    return (month[0], month[1]) if month else None


def goals_of_all(options: Mapping[str, Any], now: datetime) -> GoalsOfAll:
    """Build the work of a job from its options."""
    return GoalsOfAll(month_of(options), options["goals"], now)


def read_feedback(session: Session, mentorado_id: int, month: Month) -> Feedback | None:
    """Return the feedback of one month, or None."""
    this = select(Feedback).where(
        Feedback.mentorado_id == mentorado_id, Feedback.ano == month[0], Feedback.mes == month[1]
    )
    return session.scalars(this).one_or_none()


def write_feedback(
    session: Session,
    mentorado_id: int,
    month: Month,
    texts: Texts,
    *,
    expected: Texts,
    source: Source,
    now: datetime,
) -> None:
    """Write a month's feedback; `expected` holds the texts that the form was filled with.

    The mentee sees the acting admin as its author. Raises EditConflictError if the stored texts
    differ from the expected ones, and UnknownMentoradoError.
    """
    profile = load_profile_for_update(session, mentorado_id)  # so that two writers take turns
    found = read_feedback(session, mentorado_id, month)
    if {name: getattr(found, name) if found else "" for name in texts} != dict(expected):
        raise EditConflictError
    key = {"mentorado_id": mentorado_id, "ano": month[0], "mes": month[1]}
    written = {**texts, "author_id": source.actor_id, "updated_at": now}
    statement = insert(Feedback).values(**key, **written)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=written))
    record_action(session, source, "feedback", profile=profile, month=list(month))


def _write_month_goals(
    session: Session, ids: list[int], month: Month, goals: Goals, now: datetime
) -> list[int]:
    return list(
        session.scalars(
            update(MetricaMensal)
            .where(MetricaMensal.mentorado_id.in_(ids))
            .where(*_is_month(month))
            .values(**goals, updated_at=now)
            .returning(MetricaMensal.mentorado_id)
        )
    )


def _is_month(month: Month) -> tuple[ColumnElement[bool], ...]:
    return (MetricaMensal.ano == month[0], MetricaMensal.mes == month[1])
