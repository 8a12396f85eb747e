"""Measure the time from the login click to the first paint of the dashboard, in a real browser.

    python -m benchmarks.first_paint --beside REV --people 20

Each login is that of a new user with an empty browser cache. With `--beside` another revision is
served as well, by the installed packages, and the logins alternate between both.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from benchmarks.compare import extract_revision
from benchmarks.servers import PROJECT, run_app
from benchmarks.slices import alternate

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = ViewportSize(width=390, height=844)
OURS = "this checkout"
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
    parser.add_argument("--people", type=int, default=20, help="first logins, one by one")
    parser.add_argument("--beside", metavar="REV", help="a commit, branch or tag to compare with")
    options = parser.parse_args()
    number, revision = options.people, options.beside
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        browser = stack.enter_context(_launch_browser())
        ours = _serve(stack, browser, folder / "own", PROJECT)
        print(f"click to painted dashboard, {number} first logins:")
        if revision is None:
            ours()  # opens the connection of the process
            _print_side(OURS, [ours() for _ in range(number)])
            return
        extract_revision(revision, folder / "revision")
        other = _serve(stack, browser, folder / "other", folder / "revision")
        pairs = alternate(ours, other, number)
    _print_side(OURS, [own for own, _ in pairs])
    _print_side(revision, [other for _, other in pairs])
    ratios = sorted(own.painted_ms / other.painted_ms for own, other in pairs)
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    print(f"  time of {OURS} / time of {revision}: {statistics.median(ratios):.2f} ({spread})")


def _print_side(name: str, logins: Sequence[FirstLogin]) -> None:
    painted = [login.painted_ms for login in logins]
    size = statistics.median(login.transferred_bytes for login in logins)
    print(
        f"  {name}: median {statistics.median(painted):.0f} ms, slowest {max(painted):.0f} ms, "
        f"{size / 1000:.1f} kB transferred with all resources"
    )


def _serve(
    stack: ExitStack, browser: Browser, folder: Path, project: Path
) -> Callable[[], FirstLogin]:
    """Serve a checkout until the stack ends; return the function that logs a new user in."""
    folder.mkdir()
    app = stack.enter_context(run_app(folder, project=str(project)))
    return partial(_first_login, browser, app.url, count(1))


@contextmanager
def _launch_browser() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        sys.exit("no browser found: install Chromium")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=list(FLAGS))


def _first_login(browser: Browser, url: str, numbers: Iterator[int]) -> FirstLogin:
    context = browser.new_context(base_url=url, viewport=PHONE)
    page: Page = context.new_page()
    page.goto("/login")
    context.new_cdp_session(page).send("Network.clearBrowserCache")
    page.get_by_label("Nome").fill("Bia Nunes")
    page.get_by_label("E-mail", exact=True).fill(f"bia.{next(numbers)}@example.com")
    page.get_by_role("button", name="Entrar", exact=True).click()
    page.wait_for_url("**/dashboard")
    login = FirstLogin(page.evaluate(PAINTED_MS), page.evaluate(TRANSFERRED_BYTES))
    context.close()
    return login


if __name__ == "__main__":
    main()
