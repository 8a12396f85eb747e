"""Demo data: a mentee with a history, and two pre-registered profiles."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dashboard.periods import BRASILIA, Period, current_period
from models import Feedback, Mentorado, MetricaMensal, User
from models.people import Turma

ALICE = "user_local_alice"
REVENUES = (9_800, 11_200, 10_400, 12_900, 13_500, 15_800, 14_900, 17_600)
LOSSES = {10_400: 2_600}  # the month with this revenue ends with a loss
FEEDBACKS = (  # of the last two months
    {
        "analise_mes": "O lucro acompanhou o faturamento.\nO Instagram trouxe metade dos leads.",
        "foco_proximo_mes": "Pedir uma indicação a cada cliente que volta.",
        "sugestao_mentor": "Combine o retorno ainda na primeira consulta.",
    },
    {
        "analise_mes": "Seu melhor mês até aqui: a agenda cheia veio das indicações.",
        "foco_proximo_mes": "Transformar metade dos leads em consultas.",
        "sugestao_mentor": "Reserve a manhã de segunda para responder a todos os leads.",
    },
)
PREREGISTERED = (("Eva Melo", "eva@example.com"), ("Fabio Nery", "fabio@example.com"))


def add_demo_data(session: Session, now: datetime) -> bool:
    """Write the demo data; returns False if they exist already."""
    if session.scalars(select(User.id).where(User.clerk_id == ALICE)).one_or_none() is not None:
        return False
    _add_alice(session, now)
    session.add_all(
        Mentorado(nome_completo=name, email=email, turma=Turma.NEON)
        for name, email in PREREGISTERED
    )
    return True


def _add_alice(session: Session, now: datetime) -> None:
    user = User(clerk_id=ALICE, name="Alice Prado", email="alice@example.com", email_verified=True)
    session.add(user)
    session.flush()  # the profile needs the id
    months = _months_before(now, len(REVENUES))
    alice = Mentorado(
        user_id=user.id,
        nome_completo="Alice Prado",
        email=user.email,
        turma=Turma.NEON,
        created_at=datetime(*months[0], 1, tzinfo=BRASILIA),
    )
    session.add(alice)
    session.flush()  # the months need the id
    for (ano, mes), revenue in zip(months, REVENUES, strict=True):
        reported_at = min(now, Period(ano, mes).closes_at - timedelta(days=5))
        values = {**_month(alice.id, ano, mes, revenue), "created_at": reported_at}
        session.execute(insert(MetricaMensal).values(values))
    for (ano, mes), texts in zip(months[-2:], FEEDBACKS, strict=True):
        read_at = None if (ano, mes) == months[-1] else now
        values = {**texts, "mentorado_id": alice.id, "ano": ano, "mes": mes, "updated_at": now}
        session.execute(insert(Feedback).values(values | {"read_at": read_at}))


def _month(mentorado_id: int, ano: int, mes: int, revenue: int) -> dict[str, int]:
    return {
        "mentorado_id": mentorado_id,
        "ano": ano,
        "mes": mes,
        "faturamento": revenue,
        "lucro": -LOSSES[revenue] if revenue in LOSSES else revenue * 2 // 5,
        "leads": revenue // 320,
        "procedimentos": revenue // 1_700,
        "posts_feed": 6 + revenue // 3_000,
        "stories": 30 + revenue // 700,
    }


def _months_before(now: datetime, count: int) -> list[tuple[int, int]]:
    """Return the last `count` months up to the current one, ascending."""
    period = current_period(now)
    current = period.ano * 12 + period.mes - 1
    indexes = range(current - count + 1, current + 1)
    return [(index // 12, index % 12 + 1) for index in indexes]
