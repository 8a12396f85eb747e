"""How long until a new person sees their dashboard? A real browser, from the click to the paint."""

import argparse
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from dev.servers import served
from tests.e2e.conftest import BROWSERS, FLAGS
from tests.support.pages import PHONE

# The navigation begins with the click; redirections on the way are part of it.
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
    """One person's first login, with an empty browser cache."""

    painted_ms: float
    transferred_bytes: int


def main() -> None:
    """Print the medians of that many first logins."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=20, help="how many sign in, one by one")
    people = parser.parse_args().people
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as app:
        logins = _sign_in(app.url, people)
    painted = [login.painted_ms for login in logins]
    size = statistics.median(login.transferred_bytes for login in logins)
    print(f"click to painted dashboard, {people} first logins:")
    print(f"  median {statistics.median(painted):.0f} ms, slowest {max(painted):.0f} ms")
    print(f"  {size / 1000:.0f} kB transferred with all parts")


def _sign_in(url: str, people: int) -> list[FirstLogin]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit("no browser found: install Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        return [_first_login(browser, url) for _ in range(people)]


def _first_login(browser: Browser, url: str) -> FirstLogin:
    context = browser.new_context(base_url=url, viewport=PHONE)  # type: ignore[arg-type] # a ViewportSize
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
