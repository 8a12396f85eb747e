"""Every state of a login has its own page: what happened, what to do, a code, nothing technical."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dev.clients import ADMIN, request_as
from dev.databases import count
from dev.servers import Postgres, Served, eventually, served, start_postgres
from tests.support.network_faults import Stage, Trouble, broken, inactive, poisoned, switched_off
from tests.support.pages import PHONE, Visitors, grave_issues, is_too_wide, sign_in, sign_in_as

BOTH = pytest.mark.parametrize("javascript", [True, False], ids=["js", "no-js"])
PREPARING = "Preparando seu perfil · Neon Dashboard"
DEAD = "SELECT count(*) FROM provisioning_attempts WHERE state = 'dead'"
TECHNICAL = ("Traceback", "SQL", "psycopg", "Error", "Exception", "None", "null", "undefined")
SUPPORT = "https://ajuda.example/contato?ref="


@pytest.fixture
def stage(site: Served, site_url: str) -> Stage:
    """The site, and an address that nobody has used."""
    return Stage(site, site_url, unused_address())


def unused_address() -> str:
    """An address that no other test signs in with."""
    return f"{uuid.uuid4().hex}@example.com"


def check_page(page: Page, heading: str, words: str, *, javascript: bool) -> None:
    """It says what happened and what to do, with a code for support, and can be used by all."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_text(words)).to_be_visible()
    code = page.locator("[data-reference]:visible").text_content() or ""
    seen = page.locator("body").inner_text()
    assert len(code) == 32
    assert page.get_by_role("link", name="suporte").get_attribute("href") == SUPPORT + code
    assert [word for word in TECHNICAL if word in seen] == []
    assert not is_too_wide(page)
    assert not javascript or grave_issues(page) == []  # axe-core needs scripts itself


@BOTH
@pytest.mark.parametrize(
    ("trouble", "heading", "words"),
    [
        (switched_off, "Novos perfis em pausa", "é só voltar mais tarde"),
        (inactive, "Perfil inativo", "Fale com a equipe para reativá-lo"),
        (broken, "Algo deu errado", "Tente novamente em alguns instantes"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_state_has_a_page_of_its_own(
    visitors: Visitors,
    stage: Stage,
    trouble: Trouble,
    heading: str,
    words: str,
    *,
    javascript: bool,
) -> None:
    page = visitors.come_to(stage.app.url, javascript=javascript, viewport=PHONE)

    with trouble(stage):
        sign_in_as(page, "Rute Alves", stage.email)
        check_page(page, heading, words, javascript=javascript)


@BOTH
def test_blocked_person_is_told_so(visitors: Visitors, stage: Stage, *, javascript: bool) -> None:
    page = visitors.come_to(stage.app.url, javascript=javascript)
    sign_in_as(page, "Rute Alves", stage.email)
    user = page.request.get("/api/auth/me").json()["user"]["id"]

    request_as(stage.app, ADMIN, f"/api/admin/users/{user}/block").raise_for_status()
    page.reload()

    check_page(page, "Acesso suspenso", "Fale com a equipe da mentoria", javascript=javascript)


@BOTH
def test_admin_is_told_that_this_is_for_mentees(
    visitors: Visitors, site: Served, *, javascript: bool
) -> None:
    page = visitors.come_to(site.url, javascript=javascript)

    sign_in(page, "Dona Admin")

    check_page(page, "Área do mentorado", "sua conta não tem um perfil", javascript=javascript)


@BOTH
def test_page_that_is_not_there_leads_back(
    visitors: Visitors, site: Served, *, javascript: bool
) -> None:
    page = visitors.come_to(site.url, javascript=javascript)

    page.goto("/nada")

    check_page(page, "Página não encontrada", "volte ao seu painel", javascript=javascript)


@BOTH
def test_month_in_the_future_is_refused_with_its_reason(
    visitors: Visitors, site: Served, *, javascript: bool
) -> None:
    page = visitors.come_to(site.url, javascript=javascript)
    sign_in(page, "Caio Reis")

    page.goto("/metricas/2999/1")

    check_page(page, "Dados inválidos", "Este mês ainda não começou.", javascript=javascript)


@pytest.fixture(scope="module")
def club(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A programme by invitation, whose background gives up after one try."""
    folder: Path = tmp_path_factory.mktemp("club")
    url = copy_database("club")
    patience = {"SWEEP_INTERVAL_SECONDS": "1", "PROVISIONING_MAX_ATTEMPTS": "1"}
    settings = {"DATABASE_URL": url, "ENROLMENT": "invited", "SUPPORT_URL": SUPPORT[:-5]}
    with served(folder, **settings, **patience) as app:
        yield Stage(app, url, "convidada@example.com")


@BOTH
def test_person_without_invitation_is_told_what_to_check(
    visitors: Visitors, club: Stage, *, javascript: bool
) -> None:
    page = visitors.come_to(club.app.url, javascript=javascript)

    sign_in_as(page, "Rute Alves", "sem-convite@example.com")

    check_page(
        page,
        "Ainda sem convite",
        "Confira se você entrou com o e-mail do convite",
        javascript=javascript,
    )


@pytest.fixture(scope="module")
def impatient_app(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, str]]:
    """An app whose background gives up after one try, and its database."""
    folder: Path = tmp_path_factory.mktemp("impatient")
    url = copy_database("impatient")
    patience = {"SWEEP_INTERVAL_SECONDS": "1", "PROVISIONING_MAX_ATTEMPTS": "1"}
    with served(folder, DATABASE_URL=url, SUPPORT_URL=SUPPORT[:-5], **patience) as app:
        yield app, url


@pytest.fixture
def impatient(impatient_app: tuple[Served, str]) -> Stage:
    """That app, and an address that nobody has used."""
    return Stage(*impatient_app, unused_address())


@BOTH
def test_profile_that_the_background_has_given_up_on_is_with_support(
    visitors: Visitors, impatient: Stage, *, javascript: bool
) -> None:
    page = visitors.come_to(impatient.app.url, javascript=javascript)

    with poisoned(impatient):
        sign_in_as(page, "Rute Alves", impatient.email)
        expect(page).to_have_title(PREPARING)
        page.goto("about:blank")  # whoever waits in person has the background wait for longer
        assert eventually(lambda: count(impatient.database_url, DEAD) == 1, seconds=30)
        page.goto("/dashboard")
        check_page(
            page, "Perfil não encontrado", "Nossa equipe já foi avisada.", javascript=javascript
        )

    page.get_by_role("button", name="Tentar novamente").click()
    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert eventually(lambda: count(impatient.database_url, DEAD) == 0, seconds=30)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server that may go away."""
    with start_postgres(tmp_path / "database") as server:
        yield server


@pytest.fixture
def frail(postgres: Postgres, tmp_path: Path) -> Iterator[Served]:
    """An app on that server, with contexts that live for one second."""
    settings = {"DATABASE_URL": postgres.url, "SESSION_TTL_SECONDS": "1"}
    with served(tmp_path, **settings, SUPPORT_URL=SUPPORT[:-5]) as app:
        yield app


@BOTH
def test_without_database_newcomers_wait_and_regulars_read(
    visitors: Visitors, frail: Served, postgres: Postgres, *, javascript: bool
) -> None:
    newcomer, regular = (visitors.come_to(frail.url, javascript=javascript) for _ in range(2))
    sign_in_as(regular, "Ivo Braga")

    postgres.crash()
    sign_in_as(newcomer, "Rute Alves")
    regular.reload()

    check_page(newcomer, "Voltamos já", "a página volta sozinha", javascript=javascript)
    expect(regular.get_by_text("por enquanto não dá para alterar nada")).to_be_visible()
    assert not javascript or grave_issues(regular) == []
    with postgres.back():
        expect(newcomer.get_by_text("Boas-vindas, Rute!")).to_be_visible(timeout=30_000)


def test_form_that_meets_no_database_is_kept_and_saved_later(
    visitors: Visitors, frail: Served, postgres: Postgres
) -> None:
    page = visitors.come_to(frail.url, javascript=False)
    sign_in_as(page, "Ivo Braga")
    page.get_by_role("link", name="Métricas", exact=True).click()
    page.get_by_label("Faturamento (R$)").fill("12.345")

    postgres.crash()
    page.get_by_role("button", name="Salvar").click()
    expect(page.get_by_text("Nada do que você preencheu se perdeu")).to_be_visible()

    with postgres.back():
        assert eventually(lambda: page.request.get("/readyz").ok)
        page.get_by_role("button", name="Tentar novamente").click()
        expect(page.locator(".figure").first).to_contain_text("R$\u00a012.345")
