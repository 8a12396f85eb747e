"""Fixtures of the browser tests: Chromium, served apps and pages."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from benchmarks.servers import AppServer
from dev import demo_data
from scripts.system_packages import SMALL_BROWSER, WHOLE_BROWSERS
from tests.support.clerk_server import Clerk, run_clerk
from tests.support.pages import DESKTOP, BrowserProfiles
from tests.support.servers import run_test_app

BROWSERS = (SMALL_BROWSER, *WHOLE_BROWSERS)
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
    """The installed Chromium or Chrome; without one the test fails."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert path is not None, "no browser found: install Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def site_url(copy_database: Callable[[str], str]) -> str:
    """The URL of the site's database, with the demo data."""
    url = copy_database("site")
    engine = create_engine(url)
    with Session(engine) as session:
        demo_data.add_demo_data(session, datetime.now(UTC))
        session.commit()
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def site(site_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app with the development identity provider."""
    folder: Path = tmp_path_factory.mktemp("site")
    with run_test_app(folder, DATABASE_URL=site_url, SUPPORT_URL=SUPPORT) as site:
        yield site


@pytest.fixture(scope="session")
def clerk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clerk]:
    """A Clerk server on another host than the app."""
    with run_clerk(tmp_path_factory.mktemp("clerk")) as clerk:
        yield clerk


@pytest.fixture(scope="session")
def clerk_site(
    clerk: Clerk, copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[AppServer]:
    """The app with the keys of that Clerk server."""
    folder: Path = tmp_path_factory.mktemp("clerk_site")
    with run_test_app(folder, DATABASE_URL=copy_database("clerk_site"), **clerk.settings) as app:
        # Another host name than Clerk's, so that both share no cookies.
        yield replace(app, url=app.url.replace("127.0.0.1", "localhost"))


@pytest.fixture
def visitors(chromium: Browser) -> Iterator[BrowserProfiles]:
    """New browser profiles; an error in the console of their pages fails the test."""
    visitors = BrowserProfiles(chromium)
    yield visitors
    visitors.close()
    assert visitors.errors == []


@pytest.fixture
def page(visitors: BrowserProfiles, site: AppServer) -> Page:
    """A page of a new browser profile with a desktop viewport."""
    return visitors.open_page(site.url, viewport=DESKTOP)
