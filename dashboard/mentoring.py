"""What mentors read and write about one mentee: a month with its goals and its feedback."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dashboard.months import FIGURES
from dashboard.periods import Period
from models import Feedback, Mentorado, MetricaMensal
from provisioning.admin_actions import load_profile_for_update, record_action
from provisioning.audit import Source

Texts = Mapping[str, str]  # the texts of a feedback by column, blank if there is none
# Columns that begin with meta_; None for a month means the standing goal.
GoalValues = Mapping[str, int | None]

GOAL_OF = {
    "faturamento": "meta_faturamento",
    "leads": "meta_leads",
    "procedimentos": "meta_procedimentos",
    "posts_feed": "meta_posts",
    "stories": "meta_stories",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a month, that of the month before, and the goal in force; None: not known."""

    name: str
    value: int | None
    before: int | None
    goal: int | None
    is_own_goal: bool  # set for this month, not the standing goal


@dataclass(frozen=True, slots=True)
class MonthReview:
    """What a mentor reads while writing about a month.

    `notes` is what the mentee has written about it, `last` the newest feedback on an earlier month.
    """

    figures: tuple[Figure, ...]
    is_reported: bool
    notes: str | None
    last: Feedback | None


class MonthNotReportedError(Exception):
    """Goals were set for a month that the mentee has not reported; none is created."""


class EditConflictError(Exception):
    """Another request has changed the feedback since its form was read."""


def set_month_goals(
    session: Session,
    mentorado_id: int,
    period: Period,
    goals: GoalValues,
    *,
    source: Source,
    now: datetime,
) -> None:
    """Set one mentee's goals for a reported month; None removes one, and the standing one counts.

    Raises MonthNotReportedError and UnknownMentoradoError.
    """
    profile = load_profile_for_update(session, mentorado_id)
    reported = select(MetricaMensal).filter_by(
        mentorado_id=mentorado_id, ano=period.ano, mes=period.mes
    )
    found = session.scalars(reported).one_or_none()
    if found is None:
        raise MonthNotReportedError
    before, after = write_goals(found, goals, now)
    if after:  # a second submit of the same form changes and records nothing
        month = [period.ano, period.mes]
        record_action(
            session, source, "month_goals", profile=profile, month=month, before=before, after=after
        )


def write_goals(
    row: Mentorado | MetricaMensal, goals: GoalValues, now: datetime
) -> tuple[GoalValues, GoalValues]:
    """Write the goals that differ from those of the row; return them before and after."""
    before = {n: old for n, value in goals.items() if (old := getattr(row, n)) != value}
    after = {name: goals[name] for name in before}
    for name, value in after.items():
        setattr(row, name, value)
    if after:
        row.updated_at = now
    return before, after


def read_feedback(session: Session, mentorado_id: int, period: Period) -> Feedback | None:
    """Return the feedback of one month, or None."""
    this = select(Feedback).filter_by(mentorado_id=mentorado_id, ano=period.ano, mes=period.mes)
    return session.scalars(this).one_or_none()


def write_feedback(
    session: Session,
    mentorado_id: int,
    period: Period,
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
    found = read_feedback(session, mentorado_id, period)
    if {name: getattr(found, name) if found else "" for name in texts} != dict(expected):
        raise EditConflictError
    key = {"mentorado_id": mentorado_id, "ano": period.ano, "mes": period.mes}
    written = {**texts, "author_id": source.actor_id, "updated_at": now}
    statement = insert(Feedback).values(**key, **written)
    session.execute(statement.on_conflict_do_update(index_elements=list(key), set_=written))
    record_action(session, source, "feedback", profile=profile, month=[period.ano, period.mes])


def read_review(session: Session, profile: Mentorado, period: Period) -> MonthReview:
    """Read a month of a profile with the month before and the feedback, in two statements."""
    keys = [(period.ano, period.mes), (period.previous.ano, period.previous.mes)]
    months = select(MetricaMensal).where(
        MetricaMensal.mentorado_id == profile.id,
        tuple_(MetricaMensal.ano, MetricaMensal.mes).in_(keys),
    )
    by_key = {(month.ano, month.mes): month for month in session.scalars(months)}
    month, before = (by_key.get(key) for key in keys)
    feedbacks = select(Feedback).where(
        Feedback.mentorado_id == profile.id, tuple_(Feedback.ano, Feedback.mes) < tuple_(*keys[0])
    )
    newest_first = feedbacks.order_by(Feedback.ano.desc(), Feedback.mes.desc())
    return MonthReview(
        figures=tuple(_figure(name, profile, month, before) for name in FIGURES),
        is_reported=month is not None,
        notes=month.observacoes if month else None,
        last=session.scalars(newest_first.limit(1)).one_or_none(),
    )


def _figure(
    name: str, profile: Mentorado, month: MetricaMensal | None, before: MetricaMensal | None
) -> Figure:
    goal_name = GOAL_OF.get(name)
    own = getattr(month, goal_name, None) if goal_name else None
    standing = getattr(profile, goal_name) if goal_name else None
    return Figure(
        name=name,
        value=getattr(month, name, None),
        before=getattr(before, name, None),
        goal=standing if own is None else own,
        is_own_goal=own is not None,
    )
