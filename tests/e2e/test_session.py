"""Browsers with an expired session token, which is valid for one minute."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect

from benchmarks.servers import AppServer
from dev.fake_clerk import DevIdentityProvider, DevUser
from tests.support.clerk_server import Clerk
from tests.support.pages import BrowserProfiles, expire_session


@pytest.fixture
def clerk_page(visitors: BrowserProfiles, clerk_site: AppServer) -> Page:
    """A page of a new browser profile on the site that uses Clerk."""
    return visitors.open_page(clerk_site.url)


@contextmanager
def clock_skew(clerk: Clerk) -> Iterator[None]:
    """Set Clerk's clock one hour back."""
    clerk.provider.clock = lambda: time.time() - 3600
    try:
        yield
    finally:
        clerk.provider.clock = time.time


def sign_in(page: Page) -> None:
    page.goto("/dashboard")
    page.get_by_role("button", name="Alice Prado").click()
    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()


def test_url_after_sign_in_has_no_handshake_parameters(clerk_page: Page) -> None:
    sign_in(clerk_page)

    expect(clerk_page).to_have_url("/dashboard")


def test_user_with_an_expired_token_stays_signed_in(clerk_page: Page, clerk: Clerk) -> None:
    sign_in(clerk_page)
    expire_session(clerk_page, clerk.provider)
    clerk_page.context.clear_cookies(name=re.compile("__refresh"))
    assert clerk_page.request.get("/api/auth/me").status == 401

    clerk_page.reload()

    expect(clerk_page.get_by_role("heading", name="Alice Prado")).to_be_visible()
    expect(clerk_page).to_have_url("/dashboard")


def test_sign_out_ends_the_session_at_clerk(clerk_page: Page) -> None:
    sign_in(clerk_page)
    clerk_page.get_by_role("button", name="Sair").click()

    clerk_page.goto("/dashboard")

    expect(clerk_page.get_by_role("heading", name="Quem está entrando?")).to_be_visible()


def test_clock_skew_ends_in_an_error_page_with_a_retry_button(
    clerk_page: Page, clerk: Clerk
) -> None:
    sign_in(clerk_page)
    with clock_skew(clerk):
        clerk_page.context.clear_cookies(name=re.compile("__session|__refresh"))
        clerk_page.goto("/dashboard")
        expect(clerk_page.get_by_role("heading", name="Não conseguimos renovar")).to_be_visible()

    clerk_page.get_by_role("button", name="Tentar novamente").click()

    expect(clerk_page.get_by_role("heading", name="Alice Prado")).to_be_visible()


def test_development_session_is_renewed_after_its_token_expired(
    page: Page, site: AppServer
) -> None:
    sign_in(page)
    expire_session(page, DevIdentityProvider(site.instance / "identity"))

    page.reload()

    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()


def test_token_of_the_token_command_works_in_a_browser(page: Page, site: AppServer) -> None:
    provider = DevIdentityProvider(site.instance / "identity")
    token = provider.token(DevUser("user_of_command", "Iara Luz", "iara@example.com"))
    page.context.add_cookies([{"name": "__session", "value": token, "url": site.url}])

    page.goto("/dashboard")

    expect(page.get_by_role("heading", name="Iara Luz")).to_be_visible()
    page.context.clear_cookies(name="__session")
    page.reload()
    expect(page.get_by_role("heading", name="Iara Luz")).to_be_visible()
