"""The months a mentee has reported, as the dashboard reads them."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from models import Feedback, Mentorado, MetricaMensal

WINDOW_MONTHS = 12


@dataclass(frozen=True, slots=True)
class Goals:
    """What counts as reached in a month."""

    faturamento: int
    leads: int
    procedimentos: int
    posts: int
    stories: int


@dataclass(frozen=True, slots=True)
class Month:
    """One reported month, with the goals that hold in it."""

    ano: int
    mes: int
    faturamento: int
    lucro: int
    leads: int
    procedimentos: int
    posts: int
    stories: int
    goals: Goals


@dataclass(frozen=True, slots=True)
class MonthFeedback:
    """The mentor's words on one month."""

    ano: int
    mes: int
    analise_mes: str
    foco_proximo_mes: str
    sugestao_mentor: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything the overview is made of; `months` ascend and are twelve at the most."""

    months: tuple[Month, ...]
    goals: Goals
    feedback: MonthFeedback | None


def read_report(session: Session, mentorado_id: int) -> Report:
    """Read a mentee's last twelve reported months, goals and the newest of the mentor's feedback.

    Raises NoResultFound for an id that is not there.
    """
    mentorado = session.scalars(select(Mentorado).where(Mentorado.id == mentorado_id)).one()
    own = own_goals(mentorado)
    rows = session.scalars(
        select(MetricaMensal)
        .where(MetricaMensal.mentorado_id == mentorado_id)
        .order_by(MetricaMensal.ano.desc(), MetricaMensal.mes.desc())
        .limit(WINDOW_MONTHS)
    )
    months = _ascending(_month(row, own) for row in rows)
    return Report(months, own, _newest_feedback(session, mentorado_id))


def own_goals(mentorado: Mentorado) -> Goals:
    """The mentee's standing goals, which hold where a month sets none."""
    return Goals(
        faturamento=mentorado.meta_faturamento,
        leads=mentorado.meta_leads or 0,
        procedimentos=mentorado.meta_procedimentos or 0,
        posts=mentorado.meta_posts or 0,
        stories=mentorado.meta_stories or 0,
    )


def _newest_feedback(session: Session, mentorado_id: int) -> MonthFeedback | None:
    row = session.scalars(
        select(Feedback)
        .where(Feedback.mentorado_id == mentorado_id)
        .order_by(Feedback.ano.desc(), Feedback.mes.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return None
    return MonthFeedback(
        row.ano, row.mes, row.analise_mes, row.foco_proximo_mes, row.sugestao_mentor
    )


def _month(row: MetricaMensal, own: Goals) -> Month:
    return Month(
        ano=row.ano,
        mes=row.mes,
        faturamento=row.faturamento,
        lucro=row.lucro,
        leads=row.leads,
        procedimentos=row.procedimentos,
        posts=row.posts_feed,
        stories=row.stories,
        goals=_goals_of_month(row, own),
    )


def _goals_of_month(row: MetricaMensal, own: Goals) -> Goals:
    return Goals(
        faturamento=_given(row.meta_faturamento, own.faturamento),
        leads=_given(row.meta_leads, own.leads),
        procedimentos=_given(row.meta_procedimentos, own.procedimentos),
        posts=_given(row.meta_posts, own.posts),
        stories=_given(row.meta_stories, own.stories),
    )


def _given(of_month: int | None, own: int) -> int:
    return own if of_month is None else of_month


def _ascending(months: Iterable[Month]) -> tuple[Month, ...]:
    return tuple(sorted(months, key=lambda m: (m.ano, m.mes)))
