"""Demo data: a mentee with a history, and two pre-registered profiles."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dashboard.periods import BRASILIA, current_period
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
    months = [current_period(now).plus(offset) for offset in range(1 - len(REVENUES), 1)]
    alice = Mentorado(
        user_id=user.id,
        nome_completo=user.name,
        email=user.email,
        turma=Turma.NEON,
        created_at=datetime(months[0].ano, months[0].mes, 1, tzinfo=BRASILIA),
    )
    session.add(alice)
    session.flush()  # the months need the id
    session.add_all(
        MetricaMensal(
            mentorado_id=alice.id,
            ano=month.ano,
            mes=month.mes,
            faturamento=revenue,
            lucro=-LOSSES[revenue] if revenue in LOSSES else revenue * 2 // 5,
            leads=revenue // 320,
            procedimentos=revenue // 1_700,
            posts_feed=6 + revenue // 3_000,
            stories=30 + revenue // 700,
            created_at=min(now, month.closes_at - timedelta(days=5)),
        )
        for month, revenue in zip(months, REVENUES, strict=True)
    )
    session.add_all(
        Feedback(
            mentorado_id=alice.id,
            ano=month.ano,
            mes=month.mes,
            updated_at=now,
            read_at=None if month == months[-1] else now,
            **texts,
        )
        for month, texts in zip(months[-2:], FEEDBACKS, strict=True)
    )
