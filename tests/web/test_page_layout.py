"""What every page has in common: menu, name, messages, and the links of error pages."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from dev.fake_clerk import DevIdentityProvider
from models import Mentorado, User
from tests.support.html_page import SAME_ORIGIN, Page, open_page
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW

MENU = ["Painel", "Métricas", "Meu perfil"]


def menu_of(page: Page) -> list[str]:
    """The links of the header after the brand."""
    return [a.text for a in page.all("a") if "btn-sm" in a.attributes.get("class", "")]


def current_of(page: Page) -> list[str]:
    return [a.text for a in page.all("a") if a.attributes.get("aria-current") == "page"]


def test_every_page_of_a_mentee_has_the_menu_and_the_name(
    alice: Mentorado, browser_of: Browser
) -> None:
    browser = browser_of(ALICE)

    for path, current in (
        ("/dashboard", ["Painel"]),
        ("/metricas/2026/1", ["Métricas"]),
        ("/perfil", ["Meu perfil"]),
        ("/perfil/meses", []),
    ):
        page = open_page(browser, path)
        assert menu_of(page) == MENU
        assert current_of(page) == current
        assert "Você entrou como Alice Prado" in page.all("header")[0].text


@pytest.mark.parametrize(
    ("path", "status"),
    [("/metricas/2999/1", 422), ("/admin", 403), ("/metricas/2020/1/apagar", 404)],
)
def test_error_pages_of_a_mentee_have_the_menu(
    alice: Mentorado, browser_of: Browser, path: str, status: int
) -> None:
    page = open_page(browser_of(ALICE), path, status)

    assert menu_of(page) == MENU
    assert "Sair" in [button.text for button in page.all("button")]
    assert "Entrar com outra conta" not in [button.text for button in page.all("button")]


def test_unknown_page_has_the_menu_of_a_mentee_who_has_just_been_here(
    app: Flask, alice: Mentorado, browser_of: Browser
) -> None:
    browser = browser_of(ALICE)
    browser.get("/dashboard")

    with app.app_context():  # as each request of a server has its own
        page = open_page(browser, "/nada", 404)

    assert menu_of(page) == MENU
    assert "Você entrou como Alice Prado" in page.all("header")[0].text


def test_unknown_page_of_an_invalid_session_is_not_found(
    app: Flask, alice: Mentorado, browser_of: Browser
) -> None:
    browser = browser_of(ALICE)
    browser.get("/dashboard")
    browser.set_cookie("__session", "eyJhbGciOiJub25lIn0.e30.")

    with app.app_context():
        response = browser.get("/nada")

    assert (response.status_code, menu_of(Page(response.text))) == (404, [])
    assert "Set-Cookie" not in response.headers


def test_error_page_of_an_anonymous_browser_has_no_menu(client: FlaskClient) -> None:
    page = open_page(client, "/nada", 404)

    assert menu_of(page) == []


def test_brand_leads_home(alice: Mentorado, browser_of: Browser, console: FlaskClient) -> None:
    for browser, path in ((browser_of(ALICE), "/dashboard"), (console, "/admin")):
        assert open_page(browser, path).link("Neon Dashboard") == "/"


def test_admin_with_a_profile_has_both_menus(
    alice: Mentorado, session: Session, browser_of: Browser
) -> None:
    session.execute(update(User).values(role="admin"))
    session.commit()

    assert menu_of(open_page(browser_of(ALICE))) == [*MENU, "Administração"]


def test_blocked_user_sees_when_the_access_was_checked_and_may_use_another_account(
    session: Session, browser_of: Browser
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, blocked_at=NOW))
    session.commit()

    page = open_page(browser_of(BOB), "/dashboard", 403)

    assert "Conferido em" in page.text
    assert "Entrar com outra conta" in [button.text for button in page.all("button")]


def test_found_pre_registration_is_announced_instead_of_a_new_profile(
    session: Session, browser_of: Browser
) -> None:
    session.add(Mentorado(nome_completo="Bob Lima", email=BOB.email, turma="neon"))
    session.commit()

    first, second = (open_page(browser_of(BOB)).text for _ in range(2))

    assert "Encontramos seu cadastro. Boas-vindas!" in first
    assert "Perfil criado!" not in first
    assert "Encontramos" not in second


def test_expired_session_is_explained_when_continuing_has_failed(
    client: FlaskClient, provider: DevIdentityProvider
) -> None:
    client.set_cookie("__session", provider.token(BOB, lifetime_seconds=-60))

    first = Page(client.post("/metricas/2026/1", data={"lucro": "5"}, headers=SAME_ORIGIN).text)
    form = {
        each.attributes["name"]: each.attributes["value"]
        for each in first.all("input")
        if each.attributes["type"] == "hidden"
    }
    second = Page(client.post("/metricas/2026/1", data=form, headers=SAME_ORIGIN).text)

    assert "é só continuar" in first.text
    assert "Entre na outra aba e depois toque em Continuar." in second.text
    assert [
        next(a for a in page.all("a") if a.text == "Entrar em outra aba").attributes["class"]
        for page in (first, second)
    ] == ["btn btn-quiet", "btn btn-primary"]
    assert form["lucro"] == "5"


def test_form_that_is_continued_is_saved(alice: Mentorado, browser_of: Browser) -> None:
    form = {"lucro": "5", "continuou": "1"}

    response = browser_of(ALICE).post("/metricas/2026/1", data=form, headers=SAME_ORIGIN)

    assert response.status_code == 303
