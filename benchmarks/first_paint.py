"""Measure the time from the login click to the first paint of the dashboard, in a real browser."""

import argparse
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from dev.servers import run_app

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = ViewportSize(width=390, height=844)
# The navigation begins with the click and includes its redirects.
PAINTED_MS = """() => new Promise(resolve => new PerformanceObserver(list =>
    resolve(list.getEntriesByName('first-contentful-paint')[0].startTime)
  ).observe({type: 'paint', buffered: true}))
"""
TRANSFERRED_BYTES = """() => ['navigation', 'resource']
  .flatMap(kind => performance.getEntriesByType(kind))
  .reduce((sum, entry) => sum + entry.transferSize, 0)
"""


@dataclass(frozen=True, slots=True)
class FirstLogin:
    """The first login of one user, with an empty browser cache."""

    painted_ms: float
    transferred_bytes: int


def main() -> None:
    """Measure first logins and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=20, help="number of first logins, one by one")
    number = parser.parse_args().people
    with tempfile.TemporaryDirectory() as folder, run_app(Path(folder)) as app:
        logins = _sign_in(app.url, number)
    painted = [login.painted_ms for login in logins]
    size = statistics.median(login.transferred_bytes for login in logins)
    print(f"click to painted dashboard, {number} first logins:")
    print(f"  median {statistics.median(painted):.0f} ms, slowest {max(painted):.0f} ms")
    print(f"  {size / 1000:.0f} kB transferred with all resources")


def _sign_in(url: str, number: int) -> list[FirstLogin]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit("no browser found: install Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        return [_first_login(browser, url) for _ in range(number)]


def _first_login(browser: Browser, url: str) -> FirstLogin:
    context = browser.new_context(base_url=url, viewport=PHONE)
    page: Page = context.new_page()
    page.goto("/login")
    context.new_cdp_session(page).send("Network.clearBrowserCache")
    page.get_by_role("button", name="Bia Nunes").click()
    page.wait_for_url("**/dashboard")
    login = FirstLogin(page.evaluate(PAINTED_MS), page.evaluate(TRANSFERRED_BYTES))
    context.close()
    return login


if __name__ == "__main__":
    main()
