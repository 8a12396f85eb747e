"""Export and erasure of a person in a browser, and the banner of a support session."""

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from benchmarks.servers import AppServer
from dev.fake_clerk import DevIdentityProvider
from tests.support.pages import (
    DESKTOP,
    PHONE,
    BrowserProfiles,
    is_too_wide,
    serious_issues,
    sign_in,
    sign_in_as,
)


def test_admin_exports_and_erases_a_person(visitors: BrowserProfiles, site: AppServer) -> None:
    zelia = visitors.open_page(site.url, viewport=DESKTOP)
    sign_in_as(zelia, "Zelia Quintana", "zelia.quintana@example.com")
    console = visitors.open_page(site.url, viewport=PHONE)
    sign_in(console, "Dona Admin")
    open_person(console, "Zelia Quintana")

    with console.expect_download() as download:
        console.get_by_role("link", name="Baixar dados pessoais").click()
    document = json.loads(Path(download.value.path()).read_text())
    console.get_by_role("link", name="Apagar dados pessoais").click()
    faults = (serious_issues(console), is_too_wide(console))
    console.get_by_label("Motivo").fill("pedido da titular")
    console.get_by_label("Digite").fill("apagar")
    console.get_by_role("button", name="Apagar para sempre").click()

    assert document["tables"]["users"][0]["name"] == "Zelia Quintana"
    assert faults == ([], False)
    expect(console.get_by_text("Dados pessoais apagados.")).to_be_visible()
    console.goto("/admin/pessoas?q=Zelia")
    expect(console.get_by_text("Zelia Quintana", exact=True)).to_have_count(0)


def test_support_session_shows_its_banner(visitors: BrowserProfiles, site: AppServer) -> None:
    page = visitors.open_page(site.url, viewport=PHONE)
    sign_in(page, "Alice Prado")
    provider = DevIdentityProvider(site.instance / "identity")
    claims = {"sub": "user_local_alice", "sid": "sess_1", "act": {"sub": "user_2suporte"}}
    token = provider.sign(claims, 60)
    for name in [cookie["name"] for cookie in page.context.cookies()]:
        if name.startswith("__session"):
            page.context.add_cookies([{"name": name, "value": token, "url": site.url}])

    page.goto("/dashboard")

    expect(
        page.get_by_text("Sessão em nome de Alice Prado, aberta por user_2suporte")
    ).to_be_visible()
    assert (serious_issues(page), is_too_wide(page)) == ([], False)


def open_person(page: Page, name: str) -> None:
    page.goto(f"/admin/pessoas?q={name}")
    page.get_by_role("link", name=name).first.click()
