"""The API documentation in a browser: by keyboard, without JavaScript, on any screen."""

import pytest

from benchmarks.servers import AppServer
from tests.support.pages import DESKTOP, PHONE, BrowserProfiles, is_too_wide, serious_issues


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_operations_are_expanded_by_keyboard_without_javascript(
    visitors: BrowserProfiles, site: AppServer, viewport: dict[str, int]
) -> None:
    page = visitors.open_page(site.url, javascript=False, viewport=viewport)
    page.goto("/api/docs")
    operation = page.locator("details", has_text="/api/auth/ensure")

    operation.locator("summary").focus()
    page.keyboard.press("Enter")

    assert operation.get_by_text("provisioning_needs_attention").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_api_documentation_is_accessible(
    visitors: BrowserProfiles, site: AppServer, scheme: str
) -> None:
    page = visitors.open_page(site.url, viewport=PHONE, color_scheme=scheme)
    page.goto("/api/docs")
    for operation in page.locator("summary").all():
        operation.click()

    assert (serious_issues(page), is_too_wide(page)) == ([], False)
