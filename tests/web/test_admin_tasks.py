"""Usual tasks of an admin, by links and forms alone, with their clicks counted.

"Before" is what the first edition of the console needed.
"""

import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from dashboard.periods import Period, working_period
from models import (
    Feedback,
    Mentorado,
    MetricaMensal,
    ProvisioningAttempt,
    SweepRun,
    User,
)
from models.people import Turma
from tests.support.console_visitor import ConsoleVisitor
from tests.support.users import failed_attempt
from web.services import Services

CODE = "77aa88bb99cc00dd11ee22ff33445566"
TEXTS = {"analise_mes": "Bom mês", "foco_proximo_mes": "Leads", "sugestao_mentor": "Agenda"}


@pytest.fixture
def visitor(console: FlaskClient) -> ConsoleVisitor:
    """The admin on the console's first page; signing in leads there."""
    return ConsoleVisitor(console)


@pytest.fixture
def month(services: Services) -> Period:
    """The month of the work list."""
    return working_period(services.now())


def add_account(session: Session, name: str, email: str, **columns: object) -> User:
    user = User(clerk_id=f"user_{email}", name=name, email=email, email_verified=True, **columns)
    session.add(user)
    session.flush()  # a profile needs the id
    return user


def add_profile(session: Session, name: str, **columns: object) -> Mentorado:
    profile = Mentorado(nome_completo=name, turma=Turma.NEON, **columns)
    session.add(profile)
    session.flush()  # months need the id
    return profile


def report(session: Session, profile: Mentorado, month: Period, revenue: int = 9_000) -> None:
    session.add(
        MetricaMensal(mentorado_id=profile.id, ano=month.ano, mes=month.mes, faturamento=revenue)
    )


@pytest.mark.parametrize("wanted", [CODE[:8], "eva@example.com", "lopes eva"])
def test_person_who_cannot_sign_in_is_found_with_one_click(
    visitor: ConsoleVisitor, session: Session, services: Services, wanted: str
) -> None:
    """Before: 3 clicks, 6 for the address of a pre-registered profile."""
    user = add_account(session, "Éva Lopes", "eva@example.com", blocked_at=services.now())
    session.commit()
    services.provisioning.contexts.store_reference(CODE, user.clerk_id)

    visitor.search(wanted)

    assert visitor.url == f"/admin/pessoas/{user.id}"
    assert "O acesso foi bloqueado" in visitor.page.text
    assert visitor.clicks == 1


def test_profile_with_a_wrong_address_goes_to_its_person_with_four_clicks(
    visitor: ConsoleVisitor, session: Session
) -> None:
    """Before: 9 clicks and a number to copy."""
    user = add_account(session, "Helena Prado", "helena@example.com")
    add_profile(session, "Helena Prado", email="helen@example.com", meta_leads=99)
    session.commit()

    visitor.search("helena@example.com")
    visitor.follow("É a mesma pessoa…")
    visitor.follow("Escolher Helena Prado, helen@example.com")
    visitor.submit("Sim, é a mesma pessoa", reason="Pedido por telefone")

    session.expire_all()
    profile = session.scalars(select(Mentorado)).one()
    assert (profile.user_id, profile.meta_leads) == (user.id, 99)
    assert visitor.clicks == 4


def test_two_accounts_with_data_become_one_with_four_clicks(
    visitor: ConsoleVisitor, session: Session, month: Period
) -> None:
    """Before: more than 13 clicks, two numbers, and an account that stayed suspended."""
    accounts = [add_account(session, "Bia Nunes", f"bia{n}@example.com") for n in (1, 2)]
    for user, revenue in zip(accounts, (7_000, 8_000), strict=True):
        profile = add_profile(session, "Bia Nunes", user_id=user.id, email=user.email)
        report(session, profile, month if revenue == 7_000 else month.previous, revenue)
    session.commit()

    visitor.search("bia1@example.com")
    visitor.follow("É a mesma pessoa…")
    visitor.follow("Escolher Bia Nunes, bia2@example.com")
    visitor.submit("Sim, é a mesma pessoa")

    session.expire_all()
    profile = session.scalars(select(Mentorado)).one()
    assert profile.user_id == accounts[0].id
    assert len(session.scalars(select(MetricaMensal)).all()) == 2
    assert accounts[1].same_person_as == accounts[0].id
    assert visitor.clicks == 4


def test_goals_of_all_are_set_with_four_clicks_and_undone_with_one(
    visitor: ConsoleVisitor, session: Session
) -> None:
    """Before: 4 clicks, without names and without a way back."""
    profile = add_profile(session, "Ana Lima")
    session.commit()

    visitor.follow("Mentorados")
    visitor.follow("Metas de todos")
    visitor.submit("Ver quem muda", meta_leads="70")
    shown = visitor.page.text
    visitor.submit("Confirmar")
    session.expire_all()
    changed = profile.meta_leads
    visitor.submit("Desfazer esta mudança")

    session.expire_all()
    assert re.search(r"Ana Lima\s*50 → 70", shown)
    assert (changed, profile.meta_leads) == (70, 50)
    assert visitor.clicks == 5


def test_goals_of_one_month_are_set_with_three_clicks(
    visitor: ConsoleVisitor, session: Session, month: Period
) -> None:
    """Before: 4 clicks, blind."""
    profile = add_profile(session, "Ana Lima")
    report(session, profile, month)
    session.commit()

    visitor.search("ana lima")
    visitor.follow(
        next(link.text for link in visitor.page.all("a") if link.text.startswith("Metas de"))
    )
    visitor.submit("Salvar", meta_leads="70")

    session.expire_all()
    assert session.scalars(select(MetricaMensal.meta_leads)).one() == 70
    assert visitor.clicks == 3


def test_ten_feedbacks_are_written_with_eleven_clicks(
    visitor: ConsoleVisitor, session: Session, month: Period
) -> None:
    """Before: 40 clicks."""
    for number in range(10):
        report(session, add_profile(session, f"Mentorada {number}"), month)
    session.commit()

    visitor.follow("Escrever os feedbacks que faltam")
    while "/feedback/" in visitor.url:
        visitor.submit("Salvar e próximo sem feedback", **TEXTS)

    assert len(session.scalars(select(Feedback)).all()) == 10
    assert visitor.clicks == 11


@pytest.mark.parametrize(
    ("link", "expected"), [("Sem métricas 1", "Zoé Prado"), ("Sem feedback 2", "Ana Lima")]
)
def test_who_has_not_reported_or_has_no_feedback_is_seen_with_one_click(
    visitor: ConsoleVisitor, session: Session, month: Period, link: str, expected: str
) -> None:
    """Before: impossible."""
    report(session, add_profile(session, "Ana Lima"), month)
    add_profile(session, "Zoé Prado")
    session.commit()
    visitor.follow("Mês")
    visitor.clicks = 0

    visitor.follow(link)

    names = [
        each.text
        for each in visitor.page.all("a")
        if each.attributes["href"].startswith("/admin/mentorados/")
    ]
    assert expected in names
    assert visitor.clicks == 1


def test_failing_people_are_seen_and_all_retried_with_two_clicks(
    visitor: ConsoleVisitor, session: Session, services: Services
) -> None:
    """Before: 4 clicks for one person, none for all."""
    user = add_account(session, "Caio Reis", "caio@example.com")
    session.add(failed_attempt(user.clerk_id, at=services.now(), error_code="23514"))
    session.commit()

    visitor.follow("Sistema")
    why = visitor.page.text
    visitor.submit("Tentar todas")

    session.expire_all()
    assert "uma regra foi violada" in why
    assert session.scalars(select(ProvisioningAttempt.state)).one() == "pending"
    assert visitor.url.startswith("/admin/varreduras/")
    assert visitor.clicks == 2


def test_sweep_is_started_and_watched_with_two_clicks(
    visitor: ConsoleVisitor, session: Session
) -> None:
    """Before: 2 clicks."""
    visitor.follow("Sistema")
    visitor.submit("Iniciar uma varredura")

    run = session.scalars(select(SweepRun)).one()
    assert visitor.url == f"/admin/varreduras/{run.id}"
    assert visitor.clicks == 2


def test_who_changed_a_profile_is_seen_with_two_clicks(
    visitor: ConsoleVisitor, session: Session
) -> None:
    """Before: impossible, the log was in the API alone."""
    add_profile(session, "Ana Lima")
    session.commit()
    visitor.follow("Mentorados")
    visitor.follow("Metas de todos")
    visitor.submit("Ver quem muda", meta_leads="70")
    visitor.submit("Confirmar")
    visitor.clicks = 0

    visitor.follow("Registro")
    visitor.submit("Filtrar", q="ana")

    assert "Metas mudadas junto com as de todos" in visitor.page.text
    assert "Meta de leads: 50 → 70" in visitor.page.text
    assert visitor.clicks == 2
