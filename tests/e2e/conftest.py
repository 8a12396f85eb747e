"""A real browser against a real server."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from dev import demo_data
from dev.servers import Served, served
from tests.support.clerk_server import Clerk, clerk_in
from tests.support.pages import DESK, Visitors

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SUPPORT = "https://ajuda.example/contato"


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
def site_url(copy_database: Callable[[str], str]) -> str:
    """The database of the site, with the demo people in it."""
    url = copy_database("site")
    engine = create_engine(url)
    with Session(engine) as session:
        demo_data.fill(session, datetime.now(UTC))
        session.commit()
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def site(site_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app as a developer runs it."""
    folder: Path = tmp_path_factory.mktemp("site")
    with served(folder, DATABASE_URL=site_url, SUPPORT_URL=SUPPORT) as site:
        yield site


@pytest.fixture(scope="session")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clerk]:
    """A Clerk on a site of its own."""
    with clerk_in(tmp_path_factory.mktemp("clerk")) as clerk:
        yield clerk


@pytest.fixture(scope="session")
def customer(
    clerk: Clerk, copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The app with that Clerk's keys."""
    folder: Path = tmp_path_factory.mktemp("customer")
    with served(folder, DATABASE_URL=copy_database("customer"), **clerk.settings) as app:
        # Another host than Clerk is on, so that they share no cookies.
        yield replace(app, url=app.url.replace("127.0.0.1", "localhost"))


@pytest.fixture
def visitors(chromium: Browser) -> Iterator[Visitors]:
    """Opens browser profiles; whatever their pages complain about fails the test."""
    visitors = Visitors(chromium)
    yield visitors
    visitors.leave()
    assert visitors.complaints == []


@pytest.fixture
def page(visitors: Visitors, site: Served) -> Page:
    """A brand-new browser profile at the desk."""
    return visitors.come_to(site.url, viewport=DESK)
