"""Session tokens live for a minute, people do not: what a browser with an old one goes through."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import Served
from tests.support.clerk_server import Clerk
from tests.support.pages import Visitors, let_session_expire


@pytest.fixture
def visitor(visitors: Visitors, customer: Served) -> Page:
    """A new browser on the site of a customer of Clerk's."""
    return visitors.come_to(customer.url)


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


def test_person_comes_in_through_clerk_and_the_address_stays_clean(visitor: Page) -> None:
    sign_in(visitor)

    expect(visitor).to_have_url("/dashboard")


def test_person_whose_token_has_expired_stays_signed_in(visitor: Page, clerk: Clerk) -> None:
    sign_in(visitor)
    let_session_expire(visitor, clerk.provider)
    assert visitor.request.get("/api/auth/me").status == 401

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
    let_session_expire(page, DevIdentityProvider(site.instance / "identity"))

    page.reload()

    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()


def test_token_of_the_command_line_serves_a_browser_too(page: Page, site: Served) -> None:
    stand_in = DevIdentityProvider(site.instance / "identity")
    token = stand_in.token(DevUser("user_by_hand", "Iara Luz", "iara@example.com"))
    page.context.add_cookies([{"name": "__session", "value": token, "url": site.url}])

    page.goto("/dashboard")

    expect(page.get_by_role("heading", name="Iara Luz")).to_be_visible()
    page.context.clear_cookies(name="__session")
    page.reload()
    expect(page.get_by_role("heading", name="Iara Luz")).to_be_visible()
