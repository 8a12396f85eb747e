"""The API documentation in a browser: by keyboard, without JavaScript, on any screen."""

import pytest

from dev.servers import Served
from tests.support.pages import DESK, PHONE, Visitors, grave_issues, is_too_wide


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desktop"])
def test_operations_are_expanded_by_keyboard_without_javascript(
    visitors: Visitors, site: Served, viewport: dict[str, int]
) -> None:
    page = visitors.come_to(site.url, javascript=False, viewport=viewport)
    page.goto("/api/docs")
    operation = page.locator("details", has_text="/api/auth/ensure")

    operation.locator("summary").focus()
    page.keyboard.press("Enter")

    assert operation.get_by_text("provisioning_needs_attention").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_api_documentation_is_accessible(visitors: Visitors, site: Served, scheme: str) -> None:
    page = visitors.come_to(site.url, viewport=PHONE, color_scheme=scheme)
    page.goto("/api/docs")
    for operation in page.locator("summary").all():
        operation.click()

    assert (grave_issues(page), is_too_wide(page)) == ([], False)
