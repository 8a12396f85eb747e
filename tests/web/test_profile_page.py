"""«Meu perfil», and the name by the API."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from models import AuditEvent, Mentorado
from provisioning.profiles import is_untouched
from tests.support.html_page import SAME_ORIGIN, Page, open_page, submit
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, BOB

ME = "/api/mentorados/me"


@pytest.fixture
def browser(alice: Mentorado, browser_of: Browser) -> FlaskClient:
    """Alice's browser."""
    return browser_of(ALICE)


def test_profile_shows_account_class_and_ways_to_the_own_data(browser: FlaskClient) -> None:
    page = open_page(browser, "/perfil")

    assert page.by_id("nome_completo").attributes["value"] == "Alice Prado"
    assert "E-mail alice@example.com confirmado Turma Neon" in page.text
    assert page.link("Baixar tudo o que guardamos") == "/perfil/dados.json"
    assert page.link("Todos os meses") == "/perfil/meses"
    assert "Sair da conta" in [button.text for button in page.all("button")]


def test_name_is_changed_everywhere_at_the_next_request(
    browser: FlaskClient, client: FlaskClient, sign: Sign
) -> None:
    page = submit(browser, "/perfil", nome_completo="  Alice   Prado Lima ")

    assert "Pronto: seu nome agora é Alice Prado Lima." in page.text
    assert "Alice Prado Lima" in open_page(browser).headings
    assert client.get(ME, headers=sign(ALICE)).get_json()["nome_completo"] == "Alice Prado Lima"


def test_change_of_the_name_is_recorded(
    browser: FlaskClient, alice: Mentorado, session: Session
) -> None:
    submit(browser, "/perfil", nome_completo="Alice Lima")

    event = session.scalars(select(AuditEvent).where(AuditEvent.event == "profile_renamed")).one()

    assert (event.mentorado_id, event.user_id, event.entry) == (alice.id, alice.user_id, "page")
    assert event.details == {
        "before": {"nome_completo": "Alice Prado"},
        "after": {"nome_completo": "Alice Lima"},
    }


def test_automatic_profile_with_a_new_name_counts_as_edited(
    browser_of: Browser, session: Session
) -> None:
    bob = browser_of(BOB)
    submit(bob, "/perfil", nome_completo="Roberto Lima")

    profile = session.scalars(select(Mentorado)).one()

    assert (profile.nome_completo, is_untouched(session, profile)) == ("Roberto Lima", False)


def test_unchanged_name_writes_nothing(browser: FlaskClient, session: Session) -> None:
    page = submit(browser, "/perfil", nome_completo="Alice Prado")

    assert "Nada mudou no seu nome." in page.text
    assert (
        session.scalars(select(AuditEvent).where(AuditEvent.event == "profile_renamed")).all() == []
    )


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("  ", "Informe um nome com até 255 caracteres."),
        ("x" * 256, "Informe um nome com até 255 caracteres."),
        ("A\x07", "O nome contém um caractere de controle (U+0007). Apague-o."),
    ],
)
def test_invalid_name_stays_in_its_field_with_a_message(
    browser: FlaskClient, alice: Mentorado, session: Session, typed: str, message: str
) -> None:
    response = browser.post("/perfil", data={"nome_completo": typed}, headers=SAME_ORIGIN)
    page = Page(response.text)

    assert response.status_code == 422
    assert page.title == "Erro: Meu perfil · Neon Dashboard"
    assert page.by_id("nome_completo-erro").text == message
    assert page.by_id("nome_completo").attributes["value"] == typed
    session.refresh(alice)
    assert alice.nome_completo == "Alice Prado"


def test_name_is_escaped(browser: FlaskClient) -> None:
    submit(browser, "/perfil", nome_completo="<b>Alice</b>")

    assert "<b>Alice" not in browser.get("/perfil").text


def test_change_from_another_site_is_refused(browser: FlaskClient) -> None:
    response = browser.post(
        "/perfil", data={"nome_completo": "Eva"}, headers={"Origin": "https://evil.example"}
    )

    assert response.status_code == 403


def test_api_changes_the_name(alice: Mentorado, client: FlaskClient, sign: Sign) -> None:
    response = client.patch(ME, json={"nome_completo": "Alice Lima"}, headers=sign(ALICE))

    assert (response.status_code, response.get_json()["nome_completo"]) == (200, "Alice Lima")
    assert response.get_json() == client.get(ME, headers=sign(ALICE)).get_json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nome_completo": ""}, "nome_completo"),
        ({"nome_completo": None}, "nome_completo"),
        ({"nome_completo": "Eva", "meta_leads": 1}, "meta_leads"),
        ({"nome_completo": "Eva", "ativo": "nao"}, "ativo"),
        ({}, "nome_completo"),
    ],
)
def test_api_refuses_other_fields_and_blank_names(
    alice: Mentorado, client: FlaskClient, sign: Sign, body: dict[str, object], field: str
) -> None:
    response = client.patch(ME, json=body, headers=sign(ALICE))

    assert response.status_code == 422
    assert [error["field"] for error in response.get_json()["errors"]] == [field]


def test_admin_without_profile_has_no_profile_page(console: FlaskClient) -> None:
    response = console.get("/perfil")

    assert response.status_code == 403
    page = Page(response.text)
    assert page.link("Ir para a administração") == "/admin"
    assert "fale com a equipe" not in page.text
