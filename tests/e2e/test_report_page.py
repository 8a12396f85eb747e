"""Reporting a month in a browser, also when it takes longer than a session token is valid."""

import re

import pytest
from playwright.sync_api import Page, expect

from dev.servers import AppServer
from tests.support.clerk_server import Clerk
from tests.support.pages import (
    PHONE,
    BrowserProfiles,
    expire_session,
    is_too_wide,
    serious_issues,
    sign_in,
    sign_in_as,
)

SAVED = re.compile(r"Métricas de \w+ de \d{4} salvas!")


def open_form(page: Page) -> None:
    page.get_by_role("link", name="Métricas", exact=True).click()
    expect(page.get_by_role("heading", name="Métricas de")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_first_month_is_shown_on_the_dashboard(
    visitors: BrowserProfiles, site: AppServer, *, javascript: bool
) -> None:
    page = visitors.open_page(site.url, javascript=javascript, viewport=PHONE)
    sign_in_as(page, "Rute Alves")
    open_form(page)

    page.get_by_label("Faturamento (R$)").fill("R$ 9.500,00")
    page.get_by_label("Leads").fill("31")
    page.get_by_role("button", name="Salvar").click()

    expect(page.get_by_role("status").first).to_contain_text(SAVED)
    expect(page.locator(".figure").first).to_contain_text("R$\u00a09.500")
    expect(page.locator(".bar")).to_have_count(1)


def test_loss_is_reported_with_a_minus_sign(page: Page) -> None:
    sign_in_as(page, "Rui Salgado")
    open_form(page)

    expect(page.get_by_label("Lucro (R$)")).to_have_accessible_description(
        re.compile("sinal de menos")
    )
    page.get_by_label("Lucro (R$)").fill("\u2212R$ 1.250")
    page.get_by_role("button", name="Salvar").click()

    expect(page.get_by_role("status").first).to_contain_text(SAVED)
    expect(page.locator(".figure").nth(1)).to_contain_text("-R$\u00a01.250")
    expect(page.locator(".figure").nth(1)).to_contain_text("prejuízo em")
    assert serious_issues(page) == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_errors_are_linked_to_their_fields(
    visitors: BrowserProfiles, site: AppServer, scheme: str
) -> None:
    page = visitors.open_page(site.url, color_scheme=scheme, viewport=PHONE)
    sign_in(page, "Alice Prado")
    open_form(page)
    before = serious_issues(page)

    page.get_by_label("Lucro (R$)").fill("12,5")
    page.get_by_role("button", name="Salvar").click()
    page.get_by_role("alert").get_by_role("link", name="Lucro (R$)").click()

    expect(page.get_by_label("Lucro (R$)")).to_be_focused()
    expect(page.get_by_label("Lucro (R$)")).to_have_accessible_description(
        re.compile("sem centavos")
    )
    assert (before, serious_issues(page), is_too_wide(page)) == ([], [], False)


def test_previous_month_is_shown_beside_each_field(page: Page) -> None:
    sign_in(page, "Alice Prado")

    open_form(page)

    expect(page.get_by_label("Faturamento (R$)")).to_have_value("17.600")
    expect(page.get_by_label("Faturamento (R$)")).to_have_accessible_description(
        re.compile(r"^\w+ de \d{4}: R\$\s14\.900$")
    )


def test_session_is_renewed_before_a_late_form_is_sent(page: Page) -> None:
    framed: list[str] = []
    page.on("request", lambda r: framed.append(r.url) if r.frame.parent_frame else None)
    page.clock.install()
    sign_in_as(page, "Rute Alves")
    open_form(page)
    page.get_by_label("Leads").fill("31")

    page.clock.fast_forward(45_000)
    page.get_by_role("button", name="Salvar").click()

    expect(page.get_by_role("status").first).to_contain_text(SAVED)
    assert [url.removeprefix(page.url.removesuffix("/dashboard")) for url in framed] == ["/session"]


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_form_of_an_expired_session_is_kept_and_continued(
    visitors: BrowserProfiles, clerk_site: AppServer, clerk: Clerk, *, javascript: bool
) -> None:
    page = visitors.open_page(clerk_site.url, javascript=javascript)
    page.goto("/dashboard")
    page.get_by_role("button", name="Bia Nunes").click()
    open_form(page)
    page.get_by_label("Observações").fill("Primeira linha\n“segunda” linha")
    expire_session(page, clerk.provider)

    with page.expect_response("**/session"):
        page.get_by_role("button", name="Salvar").click()
    expect(page.get_by_text("Nada do que você preencheu se perdeu")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert not javascript or serious_issues(page) == []
    page.get_by_role("button", name="Continuar").click()

    expect(page.get_by_role("status").first).to_contain_text(SAVED)
    open_form(page)
    expect(page.get_by_label("Observações")).to_have_value("Primeira linha\n“segunda” linha")
