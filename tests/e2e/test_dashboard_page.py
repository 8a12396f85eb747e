"""The dashboard of a user with history: on screen, by keyboard, in a screen reader, printed."""

import base64
import re

import pytest
from playwright.sync_api import FloatRect, Locator, Page, ViewportSize, expect

from benchmarks.servers import AppServer
from dev.fake_clerk import DevIdentityProvider, DevUser
from tests.support.pages import (
    DESKTOP,
    SMALL_PHONE,
    BrowserProfiles,
    accessibility_issues,
    is_too_wide,
    sign_in,
    sign_in_as,
)

MONTH = re.compile(
    r"^\w+ de \d{4}: faturamento R\$\s[\d.]+, (?:lucro|prejuízo) R\$\s[\d.]+, meta R\$\s[\d.]+$"
)
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
CARDS = ["Faturamento do mês", "Lucro do mês", "Crescimento", "A mais do que no 1º mês"]


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


@pytest.mark.parametrize(
    ("viewport", "javascript"),
    [(SMALL_PHONE, False), (DESKTOP, True)],
    ids=["360-no-js", "1280-js"],
)
def test_chart_is_one_tab_stop_with_arrow_keys_inside(
    visitors: BrowserProfiles, site: AppServer, viewport: ViewportSize, *, javascript: bool
) -> None:
    page = visitors.open_page(site.url, javascript=javascript, viewport=viewport)
    sign_in(page, "Alice Prado")
    bars, radios = page.locator(".bar"), page.locator(".bar input")
    expect(bars.last.locator(".readout")).to_be_visible()
    expect(bars.last.locator(".bar-month")).to_be_visible()

    page.get_by_role("link", name="Stories", exact=True).focus()
    page.keyboard.press("Tab")
    expect(radios.last).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(radios.nth(6)).to_be_focused()
    expect(bars.nth(6).locator(".readout")).to_be_visible()
    expect(bars.last.locator(".readout")).to_be_hidden()
    page.keyboard.press("Tab")

    expect(radios.nth(6)).not_to_be_focused()
    expect(page.locator(".bar input:focus")).to_have_count(0)


@pytest.mark.parametrize(
    ("viewport", "javascript"),
    [(SMALL_PHONE, False), (DESKTOP, True)],
    ids=["360-no-js", "1280-js"],
)
def test_earlier_month_and_other_measure_are_opened_by_links(
    visitors: BrowserProfiles, site: AppServer, viewport: ViewportSize, *, javascript: bool
) -> None:
    page = visitors.open_page(site.url, javascript=javascript, viewport=viewport)
    sign_in(page, "Alice Prado")

    page.get_by_role("navigation", name="Meses").get_by_role("link").first.click()
    expect(page.locator(".figure p").first).to_have_text("R$\u00a014.900")
    page.get_by_role("link", name="Procedimentos", exact=True).click()

    expect(page.get_by_role("heading", name="Procedimentos, mês a mês")).to_be_visible()
    expect(page.locator(".figure p").first).to_have_text("R$\u00a014.900")
    expect(page.get_by_role("radio").last).to_have_accessible_name(
        re.compile(r"^\w+ de \d{4}: procedimentos 8, meta 10$")
    )
    assert not is_too_wide(page)


def test_score_is_explained_and_focus_is_ticked_without_javascript(
    visitors: BrowserProfiles, site: AppServer
) -> None:
    page = visitors.open_page(site.url, javascript=False, viewport=SMALL_PHONE)
    sign_in(page, "Alice Prado")
    expect(page.get_by_text("80 pontos são todas as metas batidas")).to_be_hidden()

    page.get_by_text("Como se calcula?").click()
    expect(page.get_by_role("row", name="Total")).to_contain_text("83 de 80")
    assert not is_too_wide(page)
    page.get_by_role("button", name="Marcar como feito").click()
    expect(page.get_by_text("Foco do mês concluído. Parabéns!")).to_be_visible()
    page.get_by_role("button", name="Reabrir").click()

    expect(page.get_by_role("button", name="Marcar como feito")).to_be_visible()


NOT_TARGETS = ".visually-hidden, .skip-link, p a, li > a, .bar *"  # links in text may be small
SMALL_TARGETS = """notTargets =>
  [...document.querySelectorAll("a, button, input:not([type=hidden]), summary")]
    .filter(e => e.checkVisibility() && !e.matches(notTargets))
    .filter(e => e.getBoundingClientRect().height < 44)
    .map(e => e.outerHTML)
"""


def test_targets_on_a_phone_are_large_enough_for_a_finger(
    visitors: BrowserProfiles, site: AppServer
) -> None:
    page = visitors.open_page(site.url, viewport=SMALL_PHONE)
    sign_in(page, "Alice Prado")

    small = []
    for path in ("/dashboard", "/perfil", "/perfil/meses", "/metricas/2026/1"):
        page.goto(path)
        small += page.evaluate(SMALL_TARGETS, NOT_TARGETS)

    assert small == []


LINES = "e => e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).lineHeight)"


def test_amounts_are_never_broken(page: Page) -> None:
    sign_in_as(page, "Rica Souza")
    page.goto("/metricas/2026/1")
    page.get_by_label("Faturamento (R$)").fill("123.456.789")
    page.get_by_label("Lucro (R$)").fill("-123.456.789")
    page.get_by_role("button", name="Salvar").click()
    amount, readout = page.locator(".figure p").first, page.locator(".readout")
    expect(amount).to_have_text("R$\u00a0123.456.789")

    for width in (320, 360, 512, 680, 768, 1000):
        page.set_viewport_size({"width": width, "height": 800})
        assert (amount.evaluate(LINES), is_too_wide(page)) == (pytest.approx(1, abs=0.1), False)
        top_of_scale = box_of(page.locator(".scale span").first)["y"]
        assert box_of(readout)["y"] + box_of(readout)["height"] <= top_of_scale


def test_chart_and_table_have_accessible_names(alice_page: Page) -> None:
    bars = alice_page.get_by_role("group", name="Faturamento e lucro").get_by_role("radio")

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
    assert ", prejuízo R$\u00a02.600, " in str(bar.locator("input").get_attribute("aria-label"))
    assert middle_of(page.get_by_text("R$\u00a00", exact=True)) == pytest.approx(zero, abs=1)
    assert page.locator(".loss").count() == 1


def box_of(part: Locator) -> FloatRect:
    box = part.bounding_box()
    assert box is not None
    return box


def middle_of(part: Locator) -> float:
    box = box_of(part)
    return box["y"] + box["height"] / 2


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
    assert accessibility_issues(page) == []


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(SMALL_PHONE, "light"), (DESKTOP, "dark")], ids=["360", "1280"]
)
def test_every_page_of_a_mentee_fits_the_screen_and_is_accessible(
    visitors: BrowserProfiles, site: AppServer, scheme: str, viewport: ViewportSize
) -> None:
    page = visitors.open_page(site.url, color_scheme=scheme, viewport=viewport)
    sign_in(page, "Alice Prado")
    month = page.get_by_role("link", name="Métricas").get_attribute("href")
    found = {}

    for path in (
        "/dashboard?mes=2025-01",
        "/perfil",
        "/perfil/meses",
        f"{month}",
        f"{month}/apagar",
        "/metricas/2999/1",
    ):
        page.goto(path)
        found[path] = (accessibility_issues(page), is_too_wide(page))
    page.goto("/dashboard")
    page.get_by_text("Como se calcula?").click()
    found["score"] = (accessibility_issues(page), is_too_wide(page))

    assert set(map(repr, found.values())) == {repr(([], False))}, found


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


def test_message_covers_nothing(visitors: BrowserProfiles, site: AppServer) -> None:
    page = visitors.open_page(site.url, viewport=SMALL_PHONE)
    sign_in_as(page, "Nina Campos")

    message = box_of(page.locator(".toast-note"))
    following = box_of(page.locator("main > *:not(.toasts)").first)

    assert message["y"] + message["height"] <= following["y"]
