"""A profile that is not there at once: the page prepares it, says so, and comes to an end."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, Request, expect

from dev.servers import Served
from tests.support.network_faults import Stage, poisoned
from tests.support.pages import ENSURE, PHONE, Visitors, grave_issues, sign_in_as

PREPARING, AGAIN, CREATED = "Preparando seu perfil…", "Erro, tentando novamente…", "Perfil criado!"
LONGEST_SECONDS = 15
MOST_CALLS = 4
NOTE_TOASTS = """
new MutationObserver(() => {
  const note = document.querySelector('.toast-note');
  if (!note || note === window.lastNote) return;
  window.lastNote = note;
  const before = JSON.parse(sessionStorage.toasts || '[]');
  sessionStorage.toasts = JSON.stringify([...before, note.textContent]);
}).observe(document, {childList: true, subtree: true});
"""
NOTED = "JSON.parse(sessionStorage.toasts)"


@pytest.fixture
def stage(site: Served, site_url: str) -> Stage:
    """The site and its database."""
    return Stage(site, site_url, "")


@pytest.fixture
def poison(stage: Stage) -> Iterator[ExitStack]:
    """No profile can be written, until this is closed."""
    with ExitStack() as stack:
        stack.enter_context(poisoned(stage))
        yield stack


@pytest.fixture
def page(visitors: Visitors, site: Served) -> Page:
    """A phone that notes all the toasts it shows."""
    page = visitors.come_to(site.url, viewport=PHONE)
    page.add_init_script(NOTE_TOASTS)
    return page


def calls_of(page: Page) -> list[str]:
    """The requests from now on that make sure of a profile."""
    calls: list[str] = []

    def note(request: Request) -> None:
        if urlsplit(request.url).path in (ENSURE, "/dashboard"):
            calls.append(f"{request.method} {urlsplit(request.url).path}")

    page.on("request", note)
    return calls


def test_waiting_is_announced_and_can_be_used_by_all(page: Page, poison: ExitStack) -> None:
    sign_in_as(page, "Rute Alves")

    expect(page.get_by_role("heading", name="Preparando seu perfil…")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text(PREPARING)
    assert grave_issues(page) == []


def test_profile_that_comes_while_waiting_ends_in_the_dashboard(
    page: Page, poison: ExitStack
) -> None:
    sign_in_as(page, "Rute Alves")
    expect(page.get_by_role("status")).to_contain_text(AGAIN)

    poison.close()

    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert page.evaluate(NOTED)[:2] == [PREPARING, AGAIN]
    assert page.evaluate(NOTED)[-1] == CREATED


def test_waiting_in_vain_ends_in_time_with_a_way_on(page: Page, poison: ExitStack) -> None:
    calls = calls_of(page)
    sign_in_as(page, "Rute Alves")
    started = time.monotonic()

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible(timeout=20_000)

    assert time.monotonic() - started < LONGEST_SECONDS
    assert calls == ["GET /dashboard", *[f"POST {ENSURE}"] * 3]
    assert page.evaluate(NOTED) == [PREPARING, AGAIN, AGAIN]
    assert grave_issues(page) == []


def test_last_card_really_tries_again(page: Page, poison: ExitStack) -> None:
    sign_in_as(page, "Rute Alves")
    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible(timeout=20_000)
    first = page.locator("[data-reference]:visible").text_content() or ""
    retry = page.get_by_role("button", name="Tentar novamente")

    retry.click()
    expect(page.get_by_role("status")).to_contain_text("Ainda não deu certo.")
    expect(page.locator("[data-reference]:visible")).not_to_have_text(first)

    poison.close()
    retry.click()
    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert page.evaluate(NOTED)[-1] == CREATED


def test_without_network_the_waiting_ends_as_well(page: Page, poison: ExitStack) -> None:
    page.clock.install()
    sign_in_as(page, "Rute Alves")
    expect(page.get_by_role("status")).to_contain_text(PREPARING)  # its script runs, too

    page.route(f"**{ENSURE}", lambda route: route.abort())
    page.clock.run_for(15_000)

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible()


def test_pause_that_is_asked_for_beyond_the_limit_ends_the_waiting(
    page: Page, poison: ExitStack, stage: Stage
) -> None:
    calls = calls_of(page)
    page.route(f"**{ENSURE}", lambda r: r.fulfill(status=429, headers={"Retry-After": "30"}))

    sign_in_as(page, "Rute Alves")

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible()
    assert calls == ["GET /dashboard", f"POST {ENSURE}"]


def test_without_javascript_the_page_prepares_and_ends_too(
    visitors: Visitors, site: Served, poison: ExitStack
) -> None:
    page = visitors.come_to(site.url, javascript=False)
    calls, started = calls_of(page), time.monotonic()

    sign_in_as(page, "Rute Alves")

    expect(page.get_by_role("heading", name="Perfil não encontrado")).to_be_visible(timeout=20_000)
    assert time.monotonic() - started < LONGEST_SECONDS
    assert calls == ["GET /dashboard"] * MOST_CALLS

    poison.close()
    page.get_by_role("button", name="Tentar novamente").click()
    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
