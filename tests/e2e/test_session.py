"""Session tokens live for a minute, people do not: what a browser with an old one goes through."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from identity.local import LocalIdentityProvider, Person
from tests.clerk import Clerk, clerk_in
from tests.serving import Served, eventually, served

PAST_ITS_END = -3  # seconds; with the leeway of five it counts for two more


@pytest.fixture(scope="module")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clerk]:
    """A Clerk on a site of its own, whose tokens end almost at once."""
    with clerk_in(tmp_path_factory.mktemp("clerk")) as clerk:
        clerk.sessions.token_seconds = PAST_ITS_END
        yield clerk


@pytest.fixture(scope="module")
def customer(
    clerk: Clerk, copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The app with that Clerk's keys."""
    folder: Path = tmp_path_factory.mktemp("customer")
    with served(folder, DATABASE_URL=copy_database("customer"), **clerk.settings) as app:
        yield app


@pytest.fixture
def visitor(chromium: Browser, customer: Served) -> Iterator[Page]:
    """A new browser; the app is on another host than Clerk is, so that they share no cookies."""
    base_url = customer.url.replace("127.0.0.1", "localhost")
    context = chromium.new_context(base_url=base_url, locale="pt-BR")
    context.set_default_timeout(10_000)
    yield context.new_page()
    context.close()


@contextmanager
def skewed(clerk: Clerk) -> Iterator[None]:
    """Clerk's clock is an hour behind ours."""
    clerk.provider.clock = lambda: time.time() - 3600
    try:
        yield
    finally:
        clerk.provider.clock = time.time


def sign_in(page: Page) -> None:
    page.goto("/dashboard")
    page.get_by_role("button", name="Alice Prado").click()
    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()


def is_over(page: Page) -> bool:
    return page.request.get("/api/auth/me").status == 401


def test_person_comes_in_through_clerk_and_the_address_stays_clean(visitor: Page) -> None:
    sign_in(visitor)

    expect(visitor).to_have_url("/dashboard")


def test_person_whose_token_has_expired_stays_signed_in(visitor: Page) -> None:
    sign_in(visitor)
    assert eventually(lambda: is_over(visitor), seconds=20)

    visitor.reload()

    expect(visitor.get_by_role("heading", name="Alice Prado")).to_be_visible()
    expect(visitor).to_have_url("/dashboard")


def test_person_who_signs_out_is_signed_out_at_clerk_as_well(visitor: Page) -> None:
    sign_in(visitor)
    visitor.get_by_role("button", name="Sair").click()

    visitor.goto("/dashboard")

    expect(visitor.get_by_role("heading", name="Quem está entrando?")).to_be_visible()


def test_clock_that_is_wrong_ends_in_an_explanation_and_a_way_on(
    visitor: Page, clerk: Clerk
) -> None:
    with skewed(clerk):
        visitor.goto("/dashboard")
        expect(visitor.get_by_role("heading", name="Não conseguimos renovar")).to_be_visible()

    visitor.get_by_role("button", name="Tentar novamente").click()

    expect(visitor.get_by_role("heading", name="Quem está entrando?")).to_be_visible()


def test_dashboard_of_a_developer_outlives_its_token(page: Page, site: Served) -> None:
    sign_in(page)
    stand_in = LocalIdentityProvider(site.instance / "identity")
    old = stand_in.token(Person("user_local_alice"), lifetime_seconds=-60)
    held = [c for c in page.context.cookies() if c["name"].startswith("__session")]

    page.context.add_cookies([{**cookie, "value": old} for cookie in held])  # type: ignore[typeddict-item] # as they came
    page.reload()

    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()


def test_token_of_the_command_line_serves_a_browser_too(page: Page, site: Served) -> None:
    stand_in = LocalIdentityProvider(site.instance / "identity")
    token = stand_in.token(Person("user_by_hand", "Iara Luz", "iara@example.com"))
    page.context.add_cookies([{"name": "__session", "value": token, "url": site.url}])

    page.goto("/dashboard")

    expect(page.get_by_role("heading", name="Iara Luz")).to_be_visible()
    page.context.clear_cookies(name="__session")
    page.reload()
    expect(page.get_by_role("heading", name="Iara Luz")).to_be_visible()
