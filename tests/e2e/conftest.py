"""A real browser against a real server."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.serving import Served, served

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The machine's Chromium or Chrome; a machine without one fails."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path is not None, "no browser found: install Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The app as a developer runs it."""
    folder: Path = tmp_path_factory.mktemp("site")
    with served(folder, DATABASE_URL=copy_database("site")) as site:
        yield site


@pytest.fixture
def page(chromium: Browser, site: Served) -> Iterator[Page]:
    """A brand-new browser profile; whatever it complains about fails the test."""
    context = chromium.new_context(base_url=site.url, viewport=DESK, locale="pt-BR")  # type: ignore[arg-type] # a ViewportSize
    context.set_default_timeout(10_000)
    page = context.new_page()
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        is_answer = message.location["url"] == page.url  # a 403 page is no fault of the page
        if message.type == "error" and not is_answer:
            complaints.append(message.text)

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert complaints == []
