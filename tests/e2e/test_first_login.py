"""First logins in a real browser, from the sign-in page to the dashboard."""

import pytest
from playwright.sync_api import Page, Request, expect

from dev.servers import Served
from tests.support.pages import PHONE, Visitors, grave_issues, is_too_wide, sign_in, sign_in_as

MOST_REDIRECTS = 3


@pytest.mark.parametrize("where", ["site", "customer"])  # Clerk on our host, and on its own
def test_way_from_sign_in_to_the_dashboard_is_short_and_straight(
    visitors: Visitors, where: str, request: pytest.FixtureRequest
) -> None:
    page = visitors.come_to(request.getfixturevalue(where).url)
    visited: list[Request] = []
    page.goto("/login")
    page.on("request", lambda r: visited.append(r) if r.is_navigation_request() else None)

    page.get_by_role("button", name="Bia Nunes").click()
    expect(page.get_by_role("heading", name="Bia Nunes")).to_be_visible()

    urls = [r.url for r in visited if r.method == "GET"]  # from where the sign-in has sent them to
    assert len(set(urls)) == len(urls)
    assert len(urls) - 1 <= MOST_REDIRECTS


def test_new_person_is_welcomed_and_shown_the_next_three_steps(page: Page) -> None:
    sign_in(page, "Bia Nunes")

    expect(page.get_by_text("Boas-vindas, Bia!")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("Perfil criado!")
    steps = page.locator(".welcome li")
    expect(steps).to_have_count(3)
    steps.first.get_by_role("link").click()
    expect(page.get_by_role("heading", name="Métricas de")).to_be_visible()


def test_toast_of_a_new_profile_is_not_shown_again(page: Page) -> None:
    sign_in(page, "Bia Nunes")
    expect(page.get_by_role("status")).to_contain_text("Perfil criado!")

    page.reload()

    expect(page.get_by_text("Boas-vindas, Bia!")).to_be_visible()
    expect(page.get_by_role("status")).to_be_empty()


@pytest.mark.parametrize("who", ["Alice Prado", "Eva Melo", "Eva, sem verificação", "Caio Reis"])
@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_everybody_of_the_cast_reaches_a_dashboard(
    visitors: Visitors, site: Served, who: str, *, javascript: bool
) -> None:
    page = visitors.come_to(site.url, javascript=javascript, viewport=PHONE)

    sign_in(page, who)

    expect(page).to_have_url("/dashboard")
    expect(page.get_by_role("heading", name="Metas")).to_be_visible()
    assert not is_too_wide(page)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_first_pages_can_be_used_by_all(visitors: Visitors, site: Served, scheme: str) -> None:
    page = visitors.come_to(site.url, color_scheme=scheme)
    page.goto("/login")
    sign_in_page = grave_issues(page)

    sign_in(page, "Bia Nunes")
    expect(page.get_by_text("Boas-vindas, Bia!")).to_be_visible()

    assert (sign_in_page, grave_issues(page)) == ([], [])


def test_next_person_in_the_same_tab_sees_nothing_of_the_first(page: Page) -> None:
    sign_in(page, "Alice Prado")
    page.get_by_role("button", name="Sair").click()

    sign_in(page, "Caio Reis")

    expect(page.get_by_role("heading", name="Caio Reis")).to_be_visible()
    assert "Alice" not in page.content()


def test_button_back_shows_nothing_of_whoever_has_signed_out(page: Page) -> None:
    sign_in(page, "Alice Prado")
    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()
    page.get_by_role("button", name="Sair").click()
    expect(page.get_by_role("heading", name="Quem está entrando?")).to_be_visible()

    page.go_back()

    expect(page.get_by_role("heading", name="Quem está entrando?")).to_be_visible()


def test_form_signs_in_anybody_else(page: Page) -> None:
    sign_in_as(page, "Zoé Lins", "zoe@example.com")

    expect(page.get_by_role("heading", name="Zoé Lins")).to_be_visible()


@pytest.mark.parametrize("name", ["W" * 250, "Ana " * 60, "<b>Ana</b>", "أنا", "👩‍⚕️ Ana"])
def test_name_of_any_kind_fits_on_a_phone(visitors: Visitors, site: Served, name: str) -> None:
    page = visitors.come_to(site.url, viewport=PHONE)

    sign_in_as(page, name)

    expect(page.get_by_role("heading", level=1)).to_have_text(name.strip())
    assert not is_too_wide(page)
