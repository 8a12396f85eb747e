"""What the team writes for mentees: goals, of a month or standing, and the mentor's feedback."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from models import Feedback, Mentorado, MetricaMensal, User
from models.columns import SimNao
from provisioning.audit import Entry
from provisioning.repairs import locked_profile, record_action

Month = tuple[int, int]  # year and month
Words = Mapping[str, str]  # the texts of a feedback by their columns, blank where there is none
Goals = Mapping[
    str, int | None
]  # columns that begin with meta_; of a month, None: the standing one


class MonthNotReportedError(Exception):
    """Goals of a month need a month: setting them never fabricates one."""


class OvertakenError(Exception):
    """Somebody has saved meanwhile what is about to be replaced."""


def set_month_goals(
    session: Session, mentorado_id: int, month: Month, goals: Goals, *, entry: Entry, now: datetime
) -> None:
    """Set one mentee's goals of a month that they have reported.

    Raises MonthNotReportedError, and UnknownMentoradoError.
    """
    profile = locked_profile(session, mentorado_id)
    if not _write_month_goals(session, [mentorado_id], month, goals, now):
        raise MonthNotReportedError
    record_action(
        session, entry, "month_goals", profile=profile, month=list(month), after=dict(goals)
    )


def set_goals_of_all(
    session: Session, month: Month | None, goals: Goals, *, entry: Entry, now: datetime
) -> tuple[int, list[str]]:
    """Set the goals of everybody who is active: standing ones, or those of a month they reported.

    Returns how many profiles have changed, and the Clerk ids of their owners.
    """
    active = select(Mentorado.id).where(Mentorado.ativo == SimNao.SIM).with_for_update()
    ids = list(session.scalars(active))
    if month is None:
        changed = list(
            session.scalars(
                update(Mentorado)
                .where(Mentorado.id.in_(ids))
                .values(**goals, edited_at=now, updated_at=now)
                .returning(Mentorado.id)
            )
        )
    else:
        changed = _write_month_goals(session, ids, month, goals, now)
    which = list(month) if month else None
    record_action(
        session, entry, "goals_of_all", month=which, after=dict(goals), count=len(changed)
    )
    owners = select(User.clerk_id).join(Mentorado, Mentorado.user_id == User.id)
    return len(changed), list(session.scalars(owners.where(Mentorado.id.in_(changed))))


def read_feedback(session: Session, mentorado_id: int, month: Month) -> Feedback | None:
    """The feedback of one month, if there is one."""
    this = select(Feedback).where(
        Feedback.mentorado_id == mentorado_id, Feedback.ano == month[0], Feedback.mes == month[1]
    )
    return session.scalars(this).one_or_none()


def write_feedback(
    session: Session,
    mentorado_id: int,
    month: Month,
    words: Words,
    *,
    instead_of: Words,
    entry: Entry,
    now: datetime,
) -> None:
    """Write a month's feedback in the place of what was there, as its writer has seen it.

    Raises OvertakenError where it is something else by now, and UnknownMentoradoError.
    """
    profile = locked_profile(session, mentorado_id)  # so that two writers take turns
    found = read_feedback(session, mentorado_id, month)
    if {name: getattr(found, name) if found else "" for name in words} != dict(instead_of):
        raise OvertakenError
    key = {"mentorado_id": mentorado_id, "ano": month[0], "mes": month[1]}
    written = insert(Feedback).values(**key, **words, updated_at=now)
    session.execute(
        written.on_conflict_do_update(index_elements=list(key), set_={**words, "updated_at": now})
    )
    record_action(session, entry, "feedback", profile=profile, month=list(month))


def _write_month_goals(
    session: Session, ids: list[int], month: Month, goals: Goals, now: datetime
) -> list[int]:
    ano, mes = month
    return list(
        session.scalars(
            update(MetricaMensal)
            .where(MetricaMensal.mentorado_id.in_(ids))
            .where(MetricaMensal.ano == ano, MetricaMensal.mes == mes)
            .values(**goals, updated_at=now)
            .returning(MetricaMensal.mentorado_id)
        )
    )
