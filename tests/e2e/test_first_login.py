"""First logins in a browser, from the sign-in page to the dashboard."""

import pytest
from playwright.sync_api import Page, Request, expect

from benchmarks.servers import AppServer
from tests.support.pages import (
    PHONE,
    BrowserProfiles,
    is_too_wide,
    serious_issues,
    sign_in,
    sign_in_as,
)

MAX_REDIRECTS = 3


# Clerk on the app's host, and on its own.
@pytest.mark.parametrize("site_fixture", ["site", "clerk_site"])
def test_sign_in_reaches_the_dashboard_with_few_redirects(
    visitors: BrowserProfiles, site_fixture: str, request: pytest.FixtureRequest
) -> None:
    page = visitors.open_page(request.getfixturevalue(site_fixture).url)
    visited: list[Request] = []
    page.goto("/login")
    page.on("request", lambda r: visited.append(r) if r.is_navigation_request() else None)

    page.get_by_role("button", name="Bia Nunes").click()
    expect(page.get_by_role("heading", name="Bia Nunes")).to_be_visible()

    urls = [r.url for r in visited if r.method == "GET"]  # the redirects after the sign-in form
    assert len(set(urls)) == len(urls)
    assert len(urls) - 1 <= MAX_REDIRECTS


def test_new_user_sees_a_welcome_and_three_next_steps(page: Page) -> None:
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


@pytest.mark.parametrize("name", ["Alice Prado", "Eva Melo", "Eva, sem verificação", "Caio Reis"])
@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_each_demo_user_reaches_a_dashboard(
    visitors: BrowserProfiles, site: AppServer, name: str, *, javascript: bool
) -> None:
    page = visitors.open_page(site.url, javascript=javascript, viewport=PHONE)

    sign_in(page, name)

    expect(page).to_have_url("/dashboard")
    expect(page.get_by_role("heading", name="Metas")).to_be_visible()
    assert not is_too_wide(page)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_sign_in_page_and_first_dashboard_are_accessible(
    visitors: BrowserProfiles, site: AppServer, scheme: str
) -> None:
    page = visitors.open_page(site.url, color_scheme=scheme)
    page.goto("/login")
    sign_in_issues = serious_issues(page)

    sign_in(page, "Bia Nunes")
    expect(page.get_by_text("Boas-vindas, Bia!")).to_be_visible()

    assert (sign_in_issues, serious_issues(page)) == ([], [])


def test_next_user_in_the_same_tab_sees_no_data_of_the_first(page: Page) -> None:
    sign_in(page, "Alice Prado")
    page.get_by_role("button", name="Sair").click()

    sign_in(page, "Caio Reis")

    expect(page.get_by_role("heading", name="Caio Reis")).to_be_visible()
    assert "Alice" not in page.content()


def test_back_button_after_sign_out_shows_no_data(page: Page) -> None:
    sign_in(page, "Alice Prado")
    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()
    page.get_by_role("button", name="Sair").click()
    expect(page.get_by_role("heading", name="Quem está entrando?")).to_be_visible()

    page.go_back()

    expect(page.get_by_role("heading", name="Quem está entrando?")).to_be_visible()


def test_sign_in_form_accepts_any_user(page: Page) -> None:
    sign_in_as(page, "Zoé Lins", "zoe@example.com")

    expect(page.get_by_role("heading", name="Zoé Lins")).to_be_visible()


@pytest.mark.parametrize("name", ["W" * 250, "Ana " * 60, "<b>Ana</b>", "أنا", "👩‍⚕️ Ana"])
def test_name_of_any_kind_fits_on_a_phone(
    visitors: BrowserProfiles, site: AppServer, name: str
) -> None:
    page = visitors.open_page(site.url, viewport=PHONE)

    sign_in_as(page, name)

    expect(page.get_by_role("heading", level=1)).to_have_text(name.strip())
    assert not is_too_wide(page)
