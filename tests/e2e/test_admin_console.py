"""Each repair in a real browser: from the broken state to the mentee's next request being right."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dev.databases import count
from dev.servers import Served, eventually, served
from tests.support.network_faults import Stage, poisoned
from tests.support.pages import DESK, Visitors, grave_issues, is_too_wide, sign_in, sign_in_as

PRE_REGISTERED = "INSERT INTO mentorados (nome_completo, email, turma) VALUES (%s, %s, 'neon')"
NAMED = "SELECT count(*) FROM mentorados WHERE nome_completo = :name"
DEAD = "SELECT count(*) FROM provisioning_attempts WHERE state = 'dead'"


@pytest.fixture
def stage(site: Served, site_url: str) -> Stage:
    """The site, and an address that nobody has used."""
    return Stage(site, site_url, f"{uuid.uuid4().hex}@example.com")


@pytest.fixture
def javascript() -> bool:
    """The desk works without; where it does more with it, a test says so."""
    return False


@pytest.fixture
def desk(visitors: Visitors, site: Served, *, javascript: bool) -> Page:
    """An admin at the desk."""
    page = visitors.come_to(site.url, javascript=javascript, viewport=DESK)
    sign_in(page, "Dona Admin")
    page.get_by_role("link", name="Ir para a administração").click()
    return page


@pytest.fixture
def rute(visitors: Visitors, stage: Stage) -> Page:
    """Rute, who has signed in for the first time."""
    page = visitors.come_to(stage.app.url)
    sign_in_as(page, "Rute Alves", stage.email)
    expect(page.get_by_role("heading", name="Rute Alves")).to_be_visible()
    return page


def find_person(desk: Page, stage: Stage) -> None:
    desk.goto(f"/admin/pessoas?q={stage.email}")
    desk.get_by_role("table").get_by_role("link").first.click()


def find_profile(desk: Page, wanted: str) -> None:
    desk.goto("/admin/mentorados")
    desk.get_by_label("Nome ou e-mail").fill(wanted)
    desk.get_by_role("button", name="Buscar").click()
    desk.get_by_role("table").get_by_role("link").first.click()


def confirm(desk: Page, done: str) -> None:
    desk.get_by_label("Motivo").fill("Pedido do mentorado")
    desk.get_by_role("button", name="Confirmar").click()
    expect(desk.get_by_role("status").first).to_contain_text(done)


def test_person_who_could_not_be_helped_is_helped_by_a_click(
    desk: Page, visitors: Visitors, stage: Stage
) -> None:
    rute = visitors.come_to(stage.app.url, javascript=False)
    with poisoned(stage):
        sign_in_as(rute, "Rute Alves", stage.email)
    find_person(desk, stage)
    expect(desk.get_by_role("heading", name="Em nova tentativa")).to_be_visible()

    desk.get_by_role("button", name="Tentar agora").click()

    expect(desk.get_by_role("heading", name="Pronta")).to_be_visible()
    rute.goto("/dashboard")
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()


def test_person_is_found_by_the_code_on_their_screen(
    desk: Page, visitors: Visitors, stage: Stage
) -> None:
    rute = visitors.come_to(stage.app.url, javascript=False)
    with poisoned(stage):
        sign_in_as(rute, "Rute Alves", stage.email)
        code = rute.locator("[data-reference]:visible").text_content() or ""

    desk.goto(f"/admin/pessoas?q={code}")

    expect(desk.get_by_role("table").get_by_text(stage.email)).to_be_visible()


def test_person_is_blocked_and_let_in_again(desk: Page, rute: Page, stage: Stage) -> None:
    find_person(desk, stage)
    desk.get_by_role("link", name="Bloquear acesso").click()
    confirm(desk, "Acesso bloqueado.")
    rute.reload()
    expect(rute.get_by_role("heading", name="Acesso suspenso")).to_be_visible()

    desk.get_by_role("link", name="Liberar acesso").click()
    confirm(desk, "Acesso liberado.")

    rute.reload()
    expect(rute.get_by_role("heading", name="Rute Alves")).to_be_visible()


def test_profile_is_deactivated_and_reactivated(desk: Page, rute: Page, stage: Stage) -> None:
    find_profile(desk, stage.email)
    desk.get_by_role("link", name="Desativar").click()
    confirm(desk, "Perfil desativado.")
    rute.reload()
    expect(rute.get_by_role("heading", name="Perfil inativo")).to_be_visible()

    desk.get_by_role("link", name="Reativar").click()
    confirm(desk, "Perfil reativado.")

    rute.reload()
    expect(rute.get_by_role("heading", name="Rute Alves")).to_be_visible()


def test_ambiguous_address_is_resolved_by_choosing(
    desk: Page, visitors: Visitors, stage: Stage
) -> None:
    for name in ("Rute (turma A)", "Rute (turma B)"):
        stage.run(PRE_REGISTERED, name, stage.email)
    rute = visitors.come_to(stage.app.url)
    sign_in_as(rute, "Rute Alves", stage.email)
    find_person(desk, stage)

    desk.get_by_role("listitem").filter(has_text="turma B").get_by_role(
        "link", name="vincular a esta pessoa"
    ).click()
    confirm(desk, "Perfil vinculado.")

    rute.reload()
    expect(rute.get_by_role("heading", name="Rute (turma B)")).to_be_visible()


def test_profile_is_unlinked_and_its_person_starts_anew(
    desk: Page, rute: Page, stage: Stage
) -> None:
    find_profile(desk, stage.email)
    desk.get_by_role("link", name="Corrigir").click()
    desk.get_by_label("E-mail").fill("")
    desk.get_by_role("button", name="Ver o que muda").click()
    confirm(desk, "Perfil corrigido.")

    desk.get_by_role("link", name="Desvincular").click()
    confirm(desk, "Perfil desvinculado.")

    rute.reload()
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()


def test_address_that_is_mended_finds_its_person(desk: Page, rute: Page, stage: Stage) -> None:
    stage.run(PRE_REGISTERED, f"Rute {stage.email[:6]}", f"x{stage.email}")
    find_profile(desk, f"Rute {stage.email[:6]}")

    desk.get_by_role("link", name="Corrigir").click()
    desk.get_by_label("E-mail").fill(stage.email)
    desk.get_by_role("button", name="Ver o que muda").click()
    confirm(desk, "Perfil corrigido.")

    rute.reload()
    expect(rute.get_by_role("heading", name=f"Rute {stage.email[:6]}")).to_be_visible()


def test_two_profiles_become_one_with_all_months(desk: Page, rute: Page, stage: Stage) -> None:
    name = f"Rute {stage.email[:6]}"
    stage.run(PRE_REGISTERED, name, None)
    stage.run(
        "INSERT INTO metricas_mensais (mentorado_id, ano, mes, faturamento)"
        " SELECT id, 2025, 1, 4321 FROM mentorados WHERE nome_completo = %s",
        name,
    )
    own = rute.request.get("/api/mentorados/me").json()["id"]
    find_profile(desk, name)

    desk.get_by_role("link", name="Unir a outro").click()
    desk.get_by_label("Número do perfil que fica").fill(str(own))
    desk.get_by_role("button", name="Ver o que muda").click()
    expect(desk.get_by_text("deixa de existir").last).to_be_visible()
    confirm(desk, "Perfis unidos.")

    rute.reload()
    expect(rute.get_by_role("cell", name="R$\u00a04.321")).to_be_visible()


def test_list_of_mentees_is_pre_registered(
    desk: Page, visitors: Visitors, stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "lista.csv"
    file.write_text(f"nome;e-mail\nRute da Lista;{stage.email}\n", encoding="utf-8-sig")
    desk.goto("/admin/mentorados/novos")

    desk.get_by_label("Arquivo").set_input_files(file)
    desk.get_by_role("button", name="Ensaiar a lista").click()
    desk.get_by_label("Motivo").fill("Turma nova")
    desk.get_by_role("button", name="Confirmar").click()

    expect(desk.get_by_role("heading", name="Feito: 1 de 1")).to_be_visible()
    rute = visitors.come_to(stage.app.url)
    sign_in_as(rute, "Rute Alves", stage.email)
    expect(rute.get_by_role("heading", name="Rute da Lista")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_long_list_is_followed_to_its_end(desk: Page, stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "lista.csv"
    lines = "\n".join(f"Pessoa {number};{number}.{stage.email}" for number in range(600))
    file.write_text(f"nome;e-mail\n{lines}\n", encoding="utf-8-sig")
    desk.goto("/admin/mentorados/novos")

    desk.get_by_label("Arquivo").set_input_files(file)
    desk.get_by_role("button", name="Ensaiar a lista").click()
    expect(desk.get_by_role("heading", name="O que será feito: 600 de 600")).to_be_visible()
    desk.get_by_label("Motivo").fill("Turma nova")
    desk.get_by_role("button", name="Confirmar").click()

    expect(desk.get_by_role("heading", name="Feito: 600 de 600")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_form_that_is_clicked_twice_acts_once(
    desk: Page, stage: Stage, *, javascript: bool
) -> None:
    name, sent = f"Rute {stage.email[:6]}", list[str]()
    desk.goto("/admin/mentorados/novos")
    desk.get_by_label("Nome").fill(name)
    desk.get_by_role("button", name="Ver o que muda").click()
    desk.on("request", lambda asked: sent.append(asked.method))

    desk.get_by_role("button", name="Confirmar").dblclick()

    expect(desk.get_by_role("heading", name="Feito: 1 de 1")).to_be_visible()
    assert count(stage.database_url, NAMED, name=name) == 1
    assert not javascript or sent.count("POST") == 1


def test_switch_holds_at_the_next_request(desk: Page, visitors: Visitors, stage: Stage) -> None:
    rute = visitors.come_to(stage.app.url)
    desk.get_by_role("link", name="desligar").click()
    desk.get_by_role("button", name="Desligar").click()
    sign_in_as(rute, "Rute Alves", stage.email)
    expect(rute.get_by_role("heading", name="Novos perfis em pausa")).to_be_visible()

    desk.get_by_role("link", name="ligar", exact=True).click()
    desk.get_by_role("button", name="Ligar").click()

    rute.reload()
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()


@pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
def test_sweep_is_followed_to_its_end(desk: Page) -> None:
    desk.get_by_role("link", name="Varreduras").click()

    desk.get_by_role("button", name="Só ensaiar").click()

    expect(desk.get_by_role("heading", name="(ensaio)")).to_be_visible()
    expect(desk.get_by_text("Concluída, por administração")).to_be_visible(timeout=20_000)


@pytest.fixture(scope="module")
def impatient(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """An app whose background gives up after one try."""
    url = copy_database("desk_impatient")
    patience = {"SWEEP_INTERVAL_SECONDS": "1", "PROVISIONING_MAX_ATTEMPTS": "1"}
    with served(tmp_path_factory.mktemp("desk"), DATABASE_URL=url, **patience) as app:
        yield Stage(app, url, "rute@example.com")


@pytest.mark.parametrize("button", ["Tentar agora", "Descartar tentativas"])
def test_dead_letter_is_brought_to_a_good_end(
    visitors: Visitors, impatient: Stage, button: str
) -> None:
    rute = visitors.come_to(impatient.app.url, javascript=False)
    with poisoned(impatient):
        sign_in_as(rute, "Rute Alves", f"{uuid.uuid4().hex}@example.com")
        rute.goto("about:blank")
        assert eventually(lambda: count(impatient.database_url, DEAD) == 1, seconds=30)
    desk = visitors.come_to(impatient.app.url, javascript=False)
    sign_in(desk, "Dona Admin")

    desk.goto("/admin/pessoas?state=attention")
    desk.get_by_role("link", name="Rute Alves").click()
    desk.locator(f"text={button}").click()
    if button != "Tentar agora":
        confirm(desk, "Tentativas descartadas.")

    rute.goto("/dashboard")
    expect(rute.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert eventually(lambda: count(impatient.database_url, DEAD) == 0, seconds=30)


PAGES = [
    *("/admin", "/admin/pessoas", "/admin/mentorados", "/admin/varreduras", "/admin/pessoas/1"),
    *("/admin/mentorados/1", "/admin/mentorados/novos", "/admin/criacao-automatica"),
    *("/admin/pessoa/1/bloquear", "/admin/mentorado/1/corrigir", "/admin/mentorado/1/unir"),
    *("/admin/mentorado/1/desativar", "/admin/metas", "/admin/mentorados/1/feedback/2026/1"),
    *("/admin/mentorados/1/metas/2026/1", "/admin/tarefas"),
]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_desk_fits_and_can_be_used_by_all(
    visitors: Visitors, site: Served, scheme: str, width: int
) -> None:
    page = visitors.come_to(site.url, color_scheme=scheme, viewport={"width": width, "height": 800})
    sign_in(page, "Dona Admin")
    found = {}

    for path in PAGES:
        page.goto(path)
        found[path] = (is_too_wide(page), grave_issues(page))

    assert found == dict.fromkeys(PAGES, (False, []))
