"""The system page of the console: what is not well is marked, in words, and leads to the users."""

import html
import re

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AppSetting, AuditEvent, Mentorado, ProvisioningAttempt, SweepRun, User
from models.people import Turma
from tests.support.html_page import SAME_ORIGIN
from tests.support.users import failed_attempt
from web.admin_labels import failure_text
from web.services import Services


def page_of(client: FlaskClient, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return html.unescape(response.get_data(as_text=True))


def add_failure(session: Session, services: Services, name: str, state: str) -> User:
    user = User(clerk_id=f"user_{name}", name=name)
    session.add(user)
    session.add(
        failed_attempt(user.clerk_id, state, services.now(), error_code="23514", request_id="req-1")
    )
    session.commit()
    return user


def figure_of(page: str, title: str) -> str:
    """The HTML of one figure, with its class."""
    found = re.search(
        rf'<div class="([^"]*)"><h2>{re.escape(title)}</h2>(.*?)</div>', page, re.DOTALL
    )
    assert found, title
    return f"{found[1]} {found[2]}"


def test_figures_that_are_not_well_are_marked_and_lead_to_the_users(
    console: FlaskClient, session: Session, services: Services
) -> None:
    add_failure(session, services, "bia", "dead")

    page = page_of(console, "/admin/sistema")

    for title in ("Perfis criados em 24 h", "Sem perfil agora", "Precisam de atenção"):
        assert "figure-bad" in figure_of(page, title), title
        assert 'href="/admin/pessoas?state=attention"' in figure_of(page, title), title
    assert "uma regra foi violada" in page


def test_figures_that_are_well_are_not_marked(console: FlaskClient) -> None:
    page = page_of(console, "/admin/sistema")

    assert "figure-bad" not in page
    assert "figure-warn" not in page
    assert "Tentar todas" not in page


def test_repeated_addresses_lead_to_their_profiles(
    console: FlaskClient, session: Session, services: Services
) -> None:
    for name in ("Bia um", "Bia dois"):
        session.add(Mentorado(nome_completo=name, email="bia@example.com", turma=Turma.NEON))
    session.add(Mentorado(nome_completo="Ana", email="ana@example.com", turma=Turma.NEON))
    session.commit()
    figure = figure_of(page_of(console, "/admin/sistema"), "E-mails repetidos")
    [url] = re.findall(r'href="([^"]+)"', figure)

    listed = page_of(console, url)

    assert "figure-warn" in figure
    assert "Bia um" in listed
    assert "Bia dois" in listed
    assert ">Ana<" not in listed


def test_all_failures_are_retried_with_one_click(
    console: FlaskClient, session: Session, services: Services
) -> None:
    add_failure(session, services, "bia", "dead")
    add_failure(session, services, "ana", "pending")
    assert "Tentar todas" in page_of(console, "/admin/sistema")

    response = console.post("/admin/sistema/tentar", headers=SAME_ORIGIN)

    session.expire_all()
    attempts = session.scalars(select(ProvisioningAttempt)).all()
    run = session.scalars(select(SweepRun)).one()
    event = session.scalars(select(AuditEvent).where(AuditEvent.event == "admin_action")).one()
    assert {(attempt.state, attempt.attempts) for attempt in attempts} == {("pending", 0)}
    assert response.location == f"/admin/varreduras/{run.id}"
    assert event.details == {"action": "retry_all", "count": 2}


def test_retry_without_failures_starts_nothing(console: FlaskClient, session: Session) -> None:
    response = console.post("/admin/sistema/tentar", headers=SAME_ORIGIN)

    assert response.location == "/admin/sistema"
    assert session.scalars(select(SweepRun)).all() == []


@pytest.mark.parametrize("path", ["/admin", "/admin/pessoas", "/admin/registro", "/admin/metas"])
def test_every_page_shows_that_automatic_creation_is_off(
    console: FlaskClient, session: Session, path: str
) -> None:
    before = page_of(console, path)
    session.add(AppSetting(key="auto_create", value=False))
    session.commit()

    assert "A criação automática de perfis está desligada." not in before
    assert "A criação automática de perfis está desligada." in page_of(console, path)


def test_previewed_decision_agrees_with_the_state(
    console: FlaskClient, session: Session, services: Services
) -> None:
    user = add_failure(session, services, "bia", "dead")

    page = page_of(console, f"/admin/pessoas/{user.id}")

    assert "O sistema desistiu depois de 8 tentativas: o banco de dados recusou" in page
    assert "O sistema tentaria de novo. Se o motivo acima tiver passado: Ganharia" in page


def test_profile_with_the_unverified_address_of_an_account_is_shown_with_a_warning(
    console: FlaskClient, session: Session
) -> None:
    user = User(clerk_id="user_eva", name="Eva", email="eva@example.com")
    waiting = Mentorado(nome_completo="Eva da lista", email="eva@example.com", turma=Turma.NEON)
    session.add_all([user, waiting])
    session.commit()

    page = page_of(console, f"/admin/pessoas/{user.id}")

    assert "Eva da lista" in page
    assert "ainda não foi confirmado. Vincule só se tiver certeza" in page


def test_failures_of_a_sweep_lead_to_the_users(
    console: FlaskClient, session: Session, services: Services
) -> None:
    user = User(clerk_id="user_bia", name="Bia Nunes")
    session.add(user)
    session.flush()  # the sample needs the id
    run = SweepRun(
        status="succeeded",
        trigger="admin",
        dry_run=True,
        failed=4,
        sample=[{"user_id": user.id, "outcome": "created"}],
    )
    session.add(run)
    session.commit()

    page = page_of(console, f"/admin/varreduras/{run.id}")

    assert re.search(r'<a href="/admin/pessoas\?state=pending">Falhas</a></dt><dd[^>]*>4<', page)
    assert "Bia Nunes</a>: ganharia um perfil" in page
    assert "Perfis que seriam criados" in page


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("IntegrityError 23505", "o banco de dados recusou: já existe um registro igual"),
        ("IntegrityError 23514", "o banco de dados recusou: uma regra foi violada"),
        ("OperationalError", "o banco de dados não respondeu"),
        ("OperationalError 40001", "outra gravação ao mesmo tempo atrapalhou"),
        ("UnusableAnswerError 404", "o Clerk respondeu algo que não dá para usar"),
        ("KeyError", "um erro que o programa não esperava"),
    ],
)
def test_errors_are_shown_in_words(error: str, text: str) -> None:
    assert failure_text(error) == text
