"""Looking at pages as people do, and as those do who check pages."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from auth.cookies import SESSION
from dev.fake_clerk import DevIdentityProvider

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
ENSURE = "/api/auth/ensure"
GRAVE = {"serious", "critical"}
WIDER_THAN_THE_SCREEN = (
    "document.documentElement.scrollWidth > document.documentElement.clientWidth"
)


@dataclass
class Visitors:
    """Browser profiles of people who know nothing of each other, and what their pages said."""

    chromium: Browser
    complaints: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def come_to(self, url: str, *, javascript: bool = True, **options: Any) -> Page:
        """Open a profile of its own that has never been to that site."""
        context = self.chromium.new_context(
            base_url=url, locale="pt-BR", java_script_enabled=javascript, **options
        )
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._hear(message, page))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def leave(self) -> None:
        """Close them all."""
        for context in self.contexts:
            context.close()

    def _hear(self, message: ConsoleMessage, page: Page) -> None:
        # The browser notes every 4xx and 5xx; where the page itself or the answer of a coded 503
        # is one, that is the state under test and no fault of the page.
        url = message.location["url"]
        is_answer = url == page.url or urlsplit(url).path == ENSURE
        if message.type == "error" and not (is_answer and "Failed to load" in message.text):
            self.complaints.append(message.text)


def sign_in(page: Page, who: str) -> None:
    """Sign in as one of the cast; returns when the page is there that this leads to."""
    page.goto("/login")
    page.get_by_role("button", name=who).click()
    _wait_for_what_follows(page)


def sign_in_as(page: Page, name: str, email: str | None = None) -> None:
    """Sign in as anybody, who has never been here; returns as `sign_in` does."""
    page.goto("/login")
    page.get_by_label("Nome").fill(name)
    if email:
        page.get_by_label("E-mail", exact=True).fill(email)
    page.get_by_role("button", name="Entrar", exact=True).click()
    _wait_for_what_follows(page)


def _wait_for_what_follows(page: Page) -> None:
    # A click may return before the browser has gone on, and whatever is asked of it meanwhile
    # would meet the old page or end the way to the new one.
    page.wait_for_url(lambda url: not urlsplit(url).path.endswith("/sign-in"))


def let_session_expire(page: Page, provider: DevIdentityProvider) -> None:
    """Give the browser the session token that it would hold if nobody had touched it for long."""
    held = [c for c in page.context.cookies() if c["name"].startswith(SESSION)]
    claims = jwt.decode(held[0]["value"], options={"verify_signature": False})
    old = provider.sign(claims, -60)
    page.context.add_cookies([{**cookie, "value": old} for cookie in held])  # type: ignore[typeddict-item] # as they came


def grave_issues(page: Page) -> list[str]:
    """What axe-core finds that would keep somebody out."""
    found = Axe().run(page).response["violations"]
    return [
        f"{issue['id']}: {node['html']}"
        for issue in found
        if issue["impact"] in GRAVE
        for node in issue["nodes"]
    ]


def is_too_wide(page: Page) -> bool:
    """Whether the page has to be scrolled sideways."""
    return bool(page.locator("html").evaluate(WIDER_THAN_THE_SCREEN))
