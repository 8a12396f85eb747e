"""Each repair of the admin console in a browser, up to the mentee's next request."""

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks.databases import count
from benchmarks.servers import AppServer, eventually
from dashboard.periods import current_period
from tests.support.network_faults import FaultTarget, refuse_profiles
from tests.support.pages import (
    DESKTOP,
    PHONE,
    BrowserProfiles,
    is_too_wide,
    serious_issues,
    sign_in,
    sign_in_as,
)
from tests.support.servers import run_test_app

THIS_MONTH = current_period(datetime.now(UTC))
PRE_REGISTERED = "INSERT INTO mentorados (nome_completo, email, turma) VALUES (%s, %s, 'neon')"
NAMED = "SELECT count(*) FROM mentorados WHERE nome_completo = :name"
DEAD = "SELECT count(*) FROM provisioning_attempts WHERE state = 'dead'"


@pytest.fixture
def target(site: AppServer, site_url: str) -> FaultTarget:
    """The site, its database, and an unused address."""
    return FaultTarget(site, site_url, f"{uuid.uuid4().hex}@example.com")


@pytest.fixture
def javascript() -> bool:
    """Whether JavaScript is enabled; tests override it."""
    return False


@pytest.fixture
def admin_page(visitors: BrowserProfiles, site: AppServer, *, javascript: bool) -> Page:
    """The admin console, opened by an admin."""
    page = visitors.open_page(site.url, javascript=javascript, viewport=DESKTOP)
    sign_in(page, "Dona Admin")
    expect(page).to_have_url("/admin")
    return page


@pytest.fixture
def rute(visitors: BrowserProfiles, target: FaultTarget) -> Page:
    """The dashboard of Rute, after the first login."""
    page = visitors.open_page(target.app.url)
    sign_in_as(page, "Rute Alves", target.email)
    expect(page.get_by_role("heading", name="Rute Alves")).to_be_visible()
    return page


def open_user(admin_page: Page, target: FaultTarget) -> None:
    admin_page.goto(f"/admin/pessoas?q={target.email}")
    admin_page.get_by_role("table").get_by_role("link").first.click()


def open_profile(admin_page: Page, query: str) -> None:
    admin_page.goto(f"/admin/mentorados?q={query}")
    admin_page.get_by_role("row").filter(has_text=query).get_by_role("link").first.click()


def confirm(admin_page: Page, message: str, button: str = "Confirmar") -> None:
    admin_page.get_by_label("Motivo").fill("Pedido do mentorado")
    admin_page.get_by_role("button", name=button).click()
    expect(admin_page.get_by_role("status").first).to_contain_text(message)


def choose_danger(admin_page: Page, name: str) -> None:
    """Open the closed section of dangerous changes, and choose one."""
    admin_page.locator("details.danger summary").click()
    admin_page.get_by_role("link", name=name).click()


def test_failed_attempt_is_retried_by_an_admin(
    admin_page: Page, visitors: BrowserProfiles, target: FaultTarget
) -> None:
    rute = visitors.open_page(target.app.url, javascript=False)
    with refuse_profiles(target):
        sign_in_as(rute, "Rute Alves", target.email)
    open_user(admin_page, target)
    expect(admin_page.get_by_role("heading", name="Em nova tentativa")).to_be_visible()

    admin_page.get_by_role("button", name="Tentar agora").click()

    expect(admin_page.get_by_role("heading", name="Pronta")).to_be_visible()
    rute.goto("/dashboard")
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()


def test_user_is_found_by_the_reference_code(
    admin_page: Page, visitors: BrowserProfiles, target: FaultTarget
) -> None:
    rute = visitors.open_page(target.app.url, javascript=False)
    with refuse_profiles(target):
        sign_in_as(rute, "Rute Alves", target.email)
        code = rute.locator("[data-reference]:visible").text_content() or ""

    admin_page.goto(f"/admin/pessoas?q={code}")

    expect(admin_page.get_by_role("table").get_by_text(target.email)).to_be_visible()


def test_user_is_blocked_and_allowed_again(
    admin_page: Page, rute: Page, target: FaultTarget
) -> None:
    open_user(admin_page, target)
    choose_danger(admin_page, "Bloquear acesso")
    confirm(admin_page, "Acesso bloqueado.", "Bloquear acesso")
    rute.reload()
    expect(rute.get_by_role("heading", name="Acesso suspenso")).to_be_visible()

    admin_page.get_by_role("link", name="Liberar acesso").click()
    confirm(admin_page, "Acesso liberado.")

    rute.reload()
    expect(rute.get_by_role("heading", name="Rute Alves")).to_be_visible()


def test_profile_is_deactivated_and_reactivated(
    admin_page: Page, rute: Page, target: FaultTarget
) -> None:
    open_profile(admin_page, target.email)
    choose_danger(admin_page, "Desativar")
    confirm(admin_page, "Perfil desativado.", "Desativar perfil")
    rute.reload()
    expect(rute.get_by_role("heading", name="Perfil inativo")).to_be_visible()

    admin_page.get_by_role("link", name="Reativar").click()
    confirm(admin_page, "Perfil reativado.")

    rute.reload()
    expect(rute.get_by_role("heading", name="Rute Alves")).to_be_visible()


def test_ambiguous_address_is_resolved_by_linking_one_profile(
    admin_page: Page, visitors: BrowserProfiles, target: FaultTarget
) -> None:
    for name in ("Rute (turma A)", "Rute (turma B)"):
        target.execute(PRE_REGISTERED, name, target.email)
    rute = visitors.open_page(target.app.url)
    sign_in_as(rute, "Rute Alves", target.email)
    open_user(admin_page, target)

    admin_page.get_by_role("listitem").filter(has_text="turma B").get_by_role(
        "link", name="vincular a esta pessoa"
    ).click()
    confirm(admin_page, "Perfil vinculado.")

    rute.reload()
    expect(rute.get_by_role("heading", name="Rute (turma B)")).to_be_visible()


def test_user_of_an_unlinked_profile_gets_a_new_one(
    admin_page: Page, rute: Page, target: FaultTarget
) -> None:
    open_profile(admin_page, target.email)
    admin_page.get_by_role("link", name="Corrigir").click()
    admin_page.get_by_label("E-mail").fill("")
    admin_page.get_by_role("button", name="Ver o que muda").click()
    confirm(admin_page, "Perfil corrigido.")

    choose_danger(admin_page, "Desvincular")
    confirm(admin_page, "Perfil desvinculado.", "Desvincular perfil")

    rute.reload()
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()


def test_profile_with_a_corrected_address_is_linked(
    admin_page: Page, rute: Page, target: FaultTarget
) -> None:
    target.execute(PRE_REGISTERED, f"Rute {target.email[:6]}", f"x{target.email}")
    open_profile(admin_page, f"Rute {target.email[:6]}")

    admin_page.get_by_role("link", name="Corrigir").click()
    admin_page.get_by_label("E-mail").fill(target.email)
    admin_page.get_by_role("button", name="Ver o que muda").click()
    confirm(admin_page, "Perfil corrigido.")

    rute.reload()
    expect(rute.get_by_role("heading", name=f"Rute {target.email[:6]}")).to_be_visible()


def test_merged_profile_has_all_months(admin_page: Page, rute: Page, target: FaultTarget) -> None:
    name = f"Rute {target.email[:6]}"
    target.execute(PRE_REGISTERED, name, None)
    target.execute(
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes, faturamento)"
        " SELECT id, 2025, 1, 4321 FROM mentorados WHERE nome_completo = %s",
        name,
    )
    own = rute.request.get("/api/mentorados/me").json()["id"]
    open_profile(admin_page, name)

    admin_page.get_by_role("link", name="Unir a outro").click()
    admin_page.get_by_label("Número do perfil que fica").fill(str(own))
    admin_page.get_by_role("button", name="Ver o que muda").click()
    expect(admin_page.get_by_text("deixa de existir").last).to_be_visible()
    confirm(admin_page, "Perfis unidos.")

    rute.reload()
    expect(rute.get_by_role("cell", name="R$\u00a04.321")).to_be_visible()


def test_csv_file_is_imported(
    admin_page: Page, visitors: BrowserProfiles, target: FaultTarget, tmp_path: Path
) -> None:
    file = tmp_path / "lista.csv"
    file.write_text(f"nome;e-mail\nRute da Lista;{target.email}\n", encoding="utf-8-sig")
    admin_page.goto("/admin/mentorados/novos")

    admin_page.get_by_label("Arquivo").set_input_files(file)
    admin_page.get_by_role("button", name="Simular a lista").click()
    admin_page.get_by_label("Motivo").fill("Turma nova")
    admin_page.get_by_role("button", name="Confirmar").click()

    expect(admin_page.get_by_role("heading", name="Feito: 1 de 1")).to_be_visible()
    rute = visitors.open_page(target.app.url)
    sign_in_as(rute, "Rute Alves", target.email)
    expect(rute.get_by_role("heading", name="Rute da Lista")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_progress_of_a_long_import_is_shown_to_its_end(
    admin_page: Page, target: FaultTarget, tmp_path: Path
) -> None:
    file = tmp_path / "lista.csv"
    lines = "\n".join(f"Pessoa {number};{number}.{target.email}" for number in range(600))
    file.write_text(f"nome;e-mail\n{lines}\n", encoding="utf-8-sig")
    admin_page.goto("/admin/mentorados/novos")

    admin_page.get_by_label("Arquivo").set_input_files(file)
    admin_page.get_by_role("button", name="Simular a lista").click()
    expect(admin_page.get_by_role("heading", name="O que será feito: 600 de 600")).to_be_visible()
    admin_page.get_by_label("Motivo").fill("Turma nova")
    admin_page.get_by_role("button", name="Confirmar").click()

    expect(admin_page.get_by_role("heading", name="Feito: 600 de 600")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_double_click_on_a_form_applies_it_once(
    admin_page: Page, target: FaultTarget, *, javascript: bool
) -> None:
    name, sent = f"Rute {target.email[:6]}", list[str]()
    admin_page.goto("/admin/mentorados/novos")
    admin_page.get_by_label("Nome").fill(name)
    admin_page.get_by_role("button", name="Ver o que muda").click()
    admin_page.on("request", lambda request: sent.append(request.method))

    admin_page.get_by_role("button", name="Confirmar").dblclick()

    expect(admin_page.get_by_role("heading", name="Feito: 1 de 1")).to_be_visible()
    assert count(target.database_url, NAMED, name=name) == 1
    assert not javascript or sent.count("POST") == 1


def test_auto_create_setting_applies_at_the_next_request(
    admin_page: Page, visitors: BrowserProfiles, target: FaultTarget
) -> None:
    rute = visitors.open_page(target.app.url)
    admin_page.goto("/admin/sistema")
    admin_page.get_by_role("link", name="desligar").click()
    admin_page.get_by_role("button", name="Desligar").click()
    sign_in_as(rute, "Rute Alves", target.email)
    expect(rute.get_by_role("heading", name="Novos perfis em pausa")).to_be_visible()

    admin_page.get_by_role("link", name="ligar", exact=True).click()
    admin_page.get_by_role("button", name="Ligar").click()

    rute.reload()
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_progress_of_a_sweep_is_shown_to_its_end(admin_page: Page) -> None:
    admin_page.get_by_role("link", name="Sistema").click()

    admin_page.get_by_role("button", name="Só simular").click()

    expect(admin_page.get_by_role("heading", name="(simulação)")).to_be_visible()
    expect(admin_page.get_by_text("Concluída, iniciada pela administração")).to_be_visible(
        timeout=20_000
    )


@pytest.fixture(scope="module")
def single_attempt(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultTarget]:
    """An app whose sweep creates a dead letter after one attempt."""
    url = copy_database("admin_single_attempt")
    settings = {"SWEEP_INTERVAL_SECONDS": "1", "PROVISIONING_MAX_ATTEMPTS": "1"}
    with run_test_app(tmp_path_factory.mktemp("admin"), DATABASE_URL=url, **settings) as app:
        yield FaultTarget(app, url, "rute@example.com")


@pytest.mark.parametrize("button", ["Tentar agora", "Descartar tentativas"])
def test_dead_letter_is_resolved_by_an_admin(
    visitors: BrowserProfiles, single_attempt: FaultTarget, button: str
) -> None:
    rute = visitors.open_page(single_attempt.app.url, javascript=False)
    with refuse_profiles(single_attempt):
        sign_in_as(rute, "Rute Alves", f"{uuid.uuid4().hex}@example.com")
        rute.goto("about:blank")
        assert eventually(lambda: count(single_attempt.database_url, DEAD) == 1, seconds=30)
    admin_page = visitors.open_page(single_attempt.app.url, javascript=False)
    sign_in(admin_page, "Dona Admin")

    admin_page.goto("/admin/pessoas?state=attention")
    admin_page.get_by_role("link", name="Rute Alves").click()
    admin_page.locator(f"text={button}").click()
    if button != "Tentar agora":
        confirm(admin_page, "Tentativas descartadas.")

    rute.goto("/dashboard")
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert eventually(lambda: count(single_attempt.database_url, DEAD) == 0, seconds=30)


def test_work_list_search_and_copied_addresses_on_a_phone(
    visitors: BrowserProfiles, site: AppServer
) -> None:
    page = visitors.open_page(
        site.url, viewport=PHONE, permissions=["clipboard-read", "clipboard-write"]
    )
    sign_in(page, "Dona Admin")
    page.goto("/admin")
    page.get_by_role("link", name="Copiar e-mails").click()
    page.get_by_role("button", name="Copiar").click()
    expect(page.get_by_text("E-mails copiados.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")

    page.get_by_role("searchbox", name="Buscar").fill("nery fabio")
    page.keyboard.press("Enter")

    expect(page.get_by_text("à espera de quem confirmar fabio@example.com")).to_be_visible()
    assert {"alice@example.com", "eva@example.com", "fabio@example.com"} <= set(copied.split("; "))


PAGES = [
    *("/admin", "/admin/pessoas", "/admin/mentorados", "/admin/varreduras", "/admin/pessoas/1"),
    *("/admin/mentorados/1", "/admin/mentorados/novos", "/admin/criacao-automatica"),
    *("/admin/pessoa/1/bloquear", "/admin/mentorado/1/corrigir", "/admin/mentorado/1/unir"),
    *("/admin/mentorado/1/desativar", "/admin/metas", "/admin/mentorados/1/feedback/2026/1"),
    *("/admin/mentorados/1/metas/2026/1", "/admin/tarefas", "/admin/mentorado/1/excluir"),
    "/admin/mentorados/excluidos",
    *("/admin/registro", "/admin/sistema"),
    *("/admin/meses/2026/1", "/admin/meses/2026/1/emails", "/admin/busca?q=a"),
    f"/admin/mentorados/1/feedback/{THIS_MONTH.ano}/{THIS_MONTH.mes}",  # reported by Alice
    *("/admin/mesma-pessoa?um=conta-1", "/admin/mesma-pessoa?um=conta-1&dois=perfil-2"),
]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_admin_console_fits_the_screen_and_is_accessible(
    visitors: BrowserProfiles, site: AppServer, scheme: str, width: int
) -> None:
    page = visitors.open_page(
        site.url, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    sign_in(page, "Dona Admin")
    issues = {}

    for path in PAGES:
        page.goto(path)
        issues[path] = (is_too_wide(page), serious_issues(page))

    assert issues == dict.fromkeys(PAGES, (False, []))
