"""Browser helpers: signing in, expired sessions and accessibility checks."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import jwt
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from auth.cookies import SESSION
from benchmarks.servers import eventually
from dev.fake_clerk import DevIdentityProvider

PHONE = {"width": 390, "height": 844}
SMALL_PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 900}
ENSURE = "/api/auth/ensure"
SERIOUS_IMPACTS = {"serious", "critical"}
IS_WIDER_THAN_THE_SCREEN = (
    "document.documentElement.scrollWidth > document.documentElement.clientWidth"
)


@dataclass
class BrowserProfiles:
    """Separate browser profiles of users, and the console errors of their pages."""

    chromium: Browser
    errors: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def open_page(self, url: str, *, javascript: bool = True, **options: Any) -> Page:
        """Open a page in a new browser profile for this site."""
        context = self.chromium.new_context(
            base_url=url, locale="pt-BR", java_script_enabled=javascript, **options
        )
        context.set_default_timeout(10_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._record_error(message, page))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        return page

    def close(self) -> None:
        """Close all profiles."""
        for context in self.contexts:
            context.close()

    def _record_error(self, message: ConsoleMessage, page: Page) -> None:
        # The browser logs every 4xx and 5xx. The response of the page itself or of a coded 503 is
        # the tested state, not a fault of the page.
        url = message.location["url"]
        is_tested_state = url == page.url or urlsplit(url).path == ENSURE
        if message.type == "error" and not (is_tested_state and "Failed to load" in message.text):
            self.errors.append(message.text)


def sign_in(page: Page, name: str) -> None:
    """Sign in as a demo user and wait for the next page."""
    page.goto("/login")
    page.get_by_role("button", name=name).click()
    _wait_for_next_page(page)


def sign_in_as(page: Page, name: str, email: str | None = None) -> None:
    """Sign in as a new user and wait for the next page."""
    page.goto("/login")
    page.get_by_label("Nome").fill(name)
    if email:
        page.get_by_label("E-mail", exact=True).fill(email)
    page.get_by_role("button", name="Entrar", exact=True).click()
    _wait_for_next_page(page)


def _wait_for_next_page(page: Page) -> None:
    # A click may return before the navigation. Further actions would use the old page or stop the
    # navigation.
    page.wait_for_url(lambda url: not urlsplit(url).path.endswith("/sign-in"))


def expire_session(page: Page, provider: DevIdentityProvider) -> None:
    """Replace the session token by the same one, expired."""
    session_cookies = [c for c in page.context.cookies() if c["name"].startswith(SESSION)]
    claims = jwt.decode(session_cookies[0]["value"], options={"verify_signature": False})
    expired = provider.sign(claims, -60)
    page.context.add_cookies([{**cookie, "value": expired} for cookie in session_cookies])  # type: ignore[typeddict-item] # as read


def serious_issues(page: Page) -> list[str]:
    """The serious and critical findings of axe-core."""
    return accessibility_issues(page, SERIOUS_IMPACTS)


def accessibility_issues(page: Page, impacts: Collection[str] | None = None) -> list[str]:
    """The findings of axe-core, of these impacts or of any."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{issue['id']}: {node['html']}"
        for issue in violations
        if impacts is None or issue["impact"] in impacts
        for node in issue["nodes"]
    ]


def is_too_wide(page: Page) -> bool:
    """Whether the page must be scrolled sideways, also once its layout has settled."""
    html = page.locator("html")
    return not eventually(lambda: not html.evaluate(IS_WIDER_THAN_THE_SCREEN))
