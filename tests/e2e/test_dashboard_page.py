"""The dashboard of a user with history: on screen, by keyboard, in a screen reader, printed."""

import base64
import re

import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect

from dev.fake_clerk import DevIdentityProvider, DevUser
from dev.servers import AppServer
from tests.support.pages import PHONE, BrowserProfiles, is_too_wide, serious_issues, sign_in

MONTH = re.compile(r"^\w+ de \d{4}: faturamento R\$\s[\d.]+, (?:lucro|prejuízo) R\$\s[\d.]+$")
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
CARDS = ["Faturamento do mês", "Lucro do mês", "Crescimento", "Retorno da mentoria"]


@pytest.fixture
def alice_page(page: Page) -> Page:
    """Alice's dashboard."""
    sign_in(page, "Alice Prado")
    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()
    return page


def test_figures_of_the_month_are_shown_in_cards(alice_page: Page) -> None:
    cards = alice_page.locator(".figure")

    assert cards.locator("h2").all_inner_texts() == CARDS
    assert cards.locator("p").all_inner_texts() == [
        "R$\u00a017.600",
        "R$\u00a07.040",
        "+80%",
        "R$\u00a027.700",
    ]


def test_figures_of_a_bar_are_shown_on_hover(alice_page: Page) -> None:
    bar = alice_page.locator(".bar").nth(2)
    expect(bar.locator(".readout")).to_be_hidden()

    bar.hover()

    expect(bar.locator(".readout")).to_be_visible()
    assert MONTH.match(bar.locator(".readout").inner_text())


def test_figures_of_a_bar_are_shown_on_keyboard_focus(alice_page: Page) -> None:
    bars = alice_page.locator(".bar")
    bars.first.focus()

    alice_page.keyboard.press("Tab")

    expect(bars.nth(1)).to_be_focused()
    expect(bars.nth(1).locator(".readout")).to_be_visible()
    expect(bars.first.locator(".readout")).to_be_hidden()


def test_chart_and_table_have_accessible_names(alice_page: Page) -> None:
    bars = alice_page.get_by_role("group", name="Faturamento e lucro").get_by_role("img")

    names = [bar.get_attribute("aria-label") or "" for bar in bars.all()]
    rows = alice_page.get_by_role("table").get_by_role("row")

    assert len(names) == 8
    assert all(MONTH.match(name) for name in names)
    expect(rows).to_have_count(9)


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1280])
def test_loss_is_drawn_below_the_zero_line(
    visitors: BrowserProfiles, site: AppServer, scheme: str, width: int
) -> None:
    page = visitors.open_page(
        site.url, color_scheme=scheme, viewport={"width": width, "height": 900}
    )
    sign_in(page, "Alice Prado")
    bar = page.locator(".bar").nth(2)

    zero, loss = middle_of(bar.locator(".zero")), box_of(bar.locator(".loss"))

    assert loss["y"] == pytest.approx(zero, abs=1)
    assert loss["height"] > 10
    assert bar.get_attribute("aria-label") == f"{name_of(bar)}, prejuízo R$\u00a02.600"
    assert middle_of(page.get_by_text("R$\u00a00", exact=True)) == pytest.approx(zero, abs=1)
    assert page.locator(".loss").count() == 1


def box_of(part: Locator) -> FloatRect:
    box = part.bounding_box()
    assert box is not None
    return box


def middle_of(part: Locator) -> float:
    box = box_of(part)
    return box["y"] + box["height"] / 2


def name_of(bar: Locator) -> str:
    return str(bar.get_attribute("aria-label")).partition(", ")[0]


def test_first_tab_stop_is_the_skip_link(alice_page: Page) -> None:
    alice_page.keyboard.press("Tab")
    skip = alice_page.get_by_role("link", name="Ir para o conteúdo")
    expect(skip).to_be_focused()

    alice_page.keyboard.press("Enter")

    expect(alice_page.locator("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_dashboard_fits_the_screen_and_is_accessible(
    visitors: BrowserProfiles, site: AppServer, scheme: str, width: int
) -> None:
    page = visitors.open_page(
        site.url, color_scheme=scheme, viewport={"width": width, "height": 800}
    )

    sign_in(page, "Alice Prado")
    expect(page.get_by_role("heading", name="Alice Prado")).to_be_visible()

    assert not is_too_wide(page)
    assert serious_issues(page) == []


@pytest.mark.parametrize(("content", "width"), [(PIXEL, 1), (b"no picture", 0)])
def test_photo_covers_the_initials_unless_it_cannot_be_loaded(
    page: Page, site: AppServer, content: bytes, width: int
) -> None:
    provider = DevIdentityProvider(site.instance / "identity")
    iara = DevUser(f"user_{width}", "Iara Luz", None, image_url="https://fotos.example/iara.png")
    page.context.add_cookies(
        [{"name": "__session", "value": provider.token(iara), "url": site.url}]
    )
    page.route(
        "https://fotos.example/**", lambda r: r.fulfill(body=content, content_type="image/png")
    )

    page.goto("/dashboard")

    expect(page.locator(".portrait")).to_have_text("IL")
    assert page.locator(".portrait img").evaluate("image => image.naturalWidth") == width


def test_print_shows_figures_and_no_buttons(alice_page: Page) -> None:
    alice_page.emulate_media(media="print", color_scheme="dark")

    expect(alice_page.get_by_role("button", name="Sair")).to_be_hidden()
    expect(alice_page.locator(".figure").first).to_be_visible()
    background = alice_page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"


def test_reduced_motion_disables_animations(visitors: BrowserProfiles, site: AppServer) -> None:
    page = visitors.open_page(site.url, reduced_motion="reduce", viewport=PHONE)
    sign_in(page, "Bia Nunes")

    duration = page.locator(".toast-note").evaluate("e => getComputedStyle(e).animationDuration")

    assert duration == "0.001s"
