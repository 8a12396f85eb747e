"""First logins in a real browser, from the sign-in page to the dashboard."""

import pytest
from playwright.sync_api import Page, expect


def sign_in(page: Page, who: str) -> None:
    page.goto("/login")
    page.get_by_role("button", name=who).click()


def test_new_person_sees_the_dashboard_without_any_reload(page: Page) -> None:
    visited: list[str] = []
    page.on("request", lambda r: visited.append(r.url) if r.is_navigation_request() else None)

    sign_in(page, "Bia Nunes")

    expect(page.get_by_role("heading", name="Bia Nunes")).to_be_visible()
    assert [url.count("/dashboard") for url in visited].count(1) >= 1
    assert sum(url.endswith("/dashboard") and "login" not in url for url in visited) == 2


def test_new_person_is_welcomed_by_first_name(page: Page) -> None:
    sign_in(page, "Bia Nunes")

    expect(page.get_by_text("Boas-vindas, Bia!")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("Perfil criado!")


@pytest.mark.parametrize("who", ["Alice Prado", "Eva Melo", "Eva, sem verificação", "Caio Reis"])
def test_everybody_of_the_cast_reaches_a_dashboard(page: Page, who: str) -> None:
    sign_in(page, who)

    expect(page).to_have_url("/dashboard")
    expect(page.get_by_role("heading", name="Metas")).to_be_visible()


def test_admin_is_told_that_this_is_for_mentees(page: Page) -> None:
    sign_in(page, "Dona Admin")

    expect(page.get_by_role("heading", name="Área do mentorado")).to_be_visible()


def test_next_person_in_the_same_tab_sees_nothing_of_the_first(page: Page) -> None:
    sign_in(page, "Alice Prado")
    page.get_by_role("button", name="Sair").click()

    sign_in(page, "Caio Reis")

    expect(page.get_by_role("heading", name="Caio Reis")).to_be_visible()
    assert "Alice" not in page.content()


def test_form_signs_in_anybody_else(page: Page) -> None:
    page.goto("/login")
    page.get_by_label("Nome").fill("Zoé Lins")
    page.get_by_label("E-mail", exact=True).fill("zoe@example.com")

    page.get_by_role("button", name="Entrar", exact=True).click()

    expect(page.get_by_role("heading", name="Zoé Lins")).to_be_visible()
