"""The page that waits for a profile: it retries, shows its progress, and ends in time."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from benchmarks.servers import AppServer
from tests.support.network_faults import FaultTarget, refuse_profiles
from tests.support.pages import ENSURE, PHONE, BrowserProfiles, serious_issues, sign_in_as

PREPARING, AGAIN, CREATED = "Preparando seu perfil…", "Erro, tentando novamente…", "Perfil criado!"
MAX_SECONDS = 15
MAX_CALLS = 4
RECORD_TOASTS = """
new MutationObserver(() => {
  const note = document.querySelector('.toast-note');
  if (!note || note === window.lastNote) return;
  window.lastNote = note;
  const before = JSON.parse(sessionStorage.toasts || '[]');
  sessionStorage.toasts = JSON.stringify([...before, note.textContent]);
}).observe(document, {childList: true, subtree: true});
"""
RECORDED_TOASTS = "JSON.parse(sessionStorage.toasts)"


@pytest.fixture
def target(site: AppServer, site_url: str) -> FaultTarget:
    """The site and its database, without an address."""
    return FaultTarget(site, site_url, "")


@pytest.fixture
def refused_profiles(target: FaultTarget) -> Iterator[ExitStack]:
    """The database refuses profiles until this stack is closed."""
    with ExitStack() as stack:
        stack.enter_context(refuse_profiles(target))
        yield stack


@pytest.fixture
def page(visitors: BrowserProfiles, site: AppServer) -> Page:
    """A page with a phone viewport that records its toasts."""
    page = visitors.open_page(site.url, viewport=PHONE)
    page.add_init_script(RECORD_TOASTS)
    return page


def record_calls(page: Page) -> list[str]:
    """Return a list to which requests of the dashboard and of ensure are appended."""
    calls: list[str] = []

    def record(request: Request) -> None:
        if urlsplit(request.url).path in (ENSURE, "/dashboard"):
            calls.append(f"{request.method} {urlsplit(request.url).path}")

    page.on("request", record)
    return calls


def test_waiting_page_shows_its_status_and_is_accessible(
    page: Page, refused_profiles: ExitStack
) -> None:
    sign_in_as(page, "Rute Alves")

    expect(page.get_by_role("heading", name="Preparando seu perfil…")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text(PREPARING)
    assert serious_issues(page) == []


def test_profile_created_while_waiting_opens_the_dashboard(
    page: Page, refused_profiles: ExitStack
) -> None:
    sign_in_as(page, "Rute Alves")
    expect(page.get_by_role("status")).to_contain_text(AGAIN)

    refused_profiles.close()

    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert page.evaluate(RECORDED_TOASTS)[:2] == [PREPARING, AGAIN]
    assert page.evaluate(RECORDED_TOASTS)[-1] == CREATED


def test_waiting_without_success_ends_in_time_with_a_retry_button(
    page: Page, refused_profiles: ExitStack
) -> None:
    calls = record_calls(page)
    sign_in_as(page, "Rute Alves")
    started = time.monotonic()

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible(timeout=20_000)

    assert time.monotonic() - started < MAX_SECONDS
    assert calls == ["GET /dashboard", *[f"POST {ENSURE}"] * 3]
    assert page.evaluate(RECORDED_TOASTS) == [PREPARING, AGAIN, AGAIN]
    assert serious_issues(page) == []


def test_retry_button_sends_another_request(page: Page, refused_profiles: ExitStack) -> None:
    # A pause beyond the limit ends the waiting at once.
    page.route(f"**{ENSURE}", lambda r: r.fulfill(status=429, headers={"Retry-After": "30"}))
    sign_in_as(page, "Rute Alves")
    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible()
    page.unroute(f"**{ENSURE}")
    first = page.locator("[data-reference]:visible").text_content() or ""
    retry = page.get_by_role("button", name="Tentar novamente")

    retry.click()
    expect(page.get_by_role("status")).to_contain_text("Ainda não deu certo.")
    expect(page.locator("[data-reference]:visible")).not_to_have_text(first)

    refused_profiles.close()
    retry.click()
    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert page.evaluate(RECORDED_TOASTS)[-1] == CREATED


def test_waiting_without_network_ends(page: Page, refused_profiles: ExitStack) -> None:
    page.clock.install()
    sign_in_as(page, "Rute Alves")
    expect(page.get_by_role("status")).to_contain_text(PREPARING)  # the script has started

    page.route(f"**{ENSURE}", lambda route: route.abort())
    page.clock.run_for(15_000)

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible()


def test_retry_after_beyond_the_limit_ends_the_waiting(
    page: Page, refused_profiles: ExitStack, target: FaultTarget
) -> None:
    calls = record_calls(page)
    page.route(f"**{ENSURE}", lambda r: r.fulfill(status=429, headers={"Retry-After": "30"}))

    sign_in_as(page, "Rute Alves")

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible()
    assert calls == ["GET /dashboard", f"POST {ENSURE}"]


def test_waiting_without_javascript_retries_and_ends_in_time(
    visitors: BrowserProfiles, site: AppServer, refused_profiles: ExitStack
) -> None:
    page = visitors.open_page(site.url, javascript=False)
    calls, started = record_calls(page), time.monotonic()

    sign_in_as(page, "Rute Alves")

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible(timeout=20_000)
    assert time.monotonic() - started < MAX_SECONDS
    assert calls == ["GET /dashboard"] * MAX_CALLS

    refused_profiles.close()
    page.get_by_role("button", name="Tentar novamente").click()
    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
