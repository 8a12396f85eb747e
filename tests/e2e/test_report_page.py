"""Reporting a month in a browser, also when it takes longer than a session token is valid."""

import re

import pytest
from playwright.sync_api import Dialog, Page, expect

from benchmarks.servers import AppServer
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
    page.wait_for_load_state()  # the scripts run before it


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

    page.get_by_label("Leads").fill("12,5")
    page.get_by_role("button", name="Salvar").click()
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page).to_have_title(re.compile("^Erro: "))
    page.get_by_role("alert").get_by_role("link", name="Leads").click()

    expect(page.get_by_label("Leads")).to_be_focused()
    expect(page.get_by_label("Leads")).to_have_accessible_description(
        re.compile("Se não teve nenhum, digite 0")
    )
    assert (before, serious_issues(page), is_too_wide(page)) == ([], [], False)


def test_previous_month_is_shown_beside_each_field(page: Page) -> None:
    sign_in(page, "Alice Prado")

    page.locator(".table-months").get_by_role("link", name="Corrigir").first.click()

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


# Stores what the page shows of a form while it is sent.
RECORD_SUBMIT = """() => document.addEventListener("submit", event => setTimeout(() => {
  const button = event.target.querySelector("button");
  sessionStorage.setItem("sending", `${button.textContent} ${button.disabled}`);
}))"""
CLICK_TWICE = "button => { button.click(); button.click(); }"


def test_saving_is_shown_and_cannot_be_sent_twice(page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda r: sent.append(r.url) if r.method == "POST" else None)
    sign_in_as(page, "Rute Alves")
    open_form(page)
    page.get_by_label("Leads").fill("31")
    page.evaluate(RECORD_SUBMIT)
    sent.clear()

    page.get_by_role("button", name="Salvar").evaluate(CLICK_TWICE)

    expect(page.get_by_role("status").first).to_contain_text(SAVED)
    assert page.evaluate("sessionStorage.getItem('sending')") == "Salvando… true"
    assert len(sent) == 1


def test_leaving_unsaved_changes_asks(page: Page) -> None:
    sign_in_as(page, "Rute Alves")
    open_form(page)
    page.get_by_label("Leads").fill("31")
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)

    page.get_by_role("link", name="Voltar ao painel").click(no_wait_after=True)

    expect(page.get_by_label("Leads")).to_have_value("31")
    page.get_by_label("Leads").fill("")
    page.get_by_role("link", name="Voltar ao painel").click()
    expect(page).to_have_url("/dashboard")
    assert asked == ["beforeunload"]


@pytest.mark.parametrize(("width", "javascript"), [(360, False), (1280, True)])
def test_month_reported_by_mistake_is_deleted_and_restored(
    visitors: BrowserProfiles, site: AppServer, width: int, *, javascript: bool
) -> None:
    viewport = {"width": width, "height": 800}
    page = visitors.open_page(site.url, javascript=javascript, viewport=viewport)
    sign_in_as(page, f"Ivo {width}")
    page.goto("/metricas/2026/2")
    page.get_by_label("Faturamento (R$)").fill("12.345,67")
    page.get_by_role("button", name="Salvar").click()
    expect(page.get_by_role("status").first).to_contain_text("12.346 (arredondado)")

    page.get_by_role("link", name="Corrigir").first.click()
    page.get_by_role("link", name="Apagar este mês…").click()
    expect(page.get_by_text("R$\u00a012.346")).to_be_visible()
    page.get_by_role("button", name="Apagar fevereiro de 2026").click()
    page.get_by_role("button", name="Restaurar").click()

    expect(page.get_by_role("status").first).to_contain_text("Restauramos fevereiro de 2026.")
    expect(page.locator(".figure").first).to_contain_text("R$\u00a012.346")


def test_name_is_changed_on_the_profile_page_without_javascript(
    visitors: BrowserProfiles, site: AppServer
) -> None:
    page = visitors.open_page(site.url, javascript=False, viewport=PHONE)
    sign_in_as(page, "Rute Alvez")

    page.get_by_role("link", name="Meu perfil").click()
    page.get_by_label("Nome completo").fill("Rute Alves Lima")
    page.get_by_role("button", name="Salvar").click()

    expect(page.get_by_role("status").first).to_contain_text("Rute Alves Lima")
    expect(page.get_by_text("Adicione um para encontrarmos seu pré-cadastro")).to_be_visible()
    expect(page.locator("header")).to_contain_text("Rute Alves Lima")
