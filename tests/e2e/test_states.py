"""Each state of a login has a page with the reason, the next step and a reference code."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from benchmarks.databases import count
from benchmarks.servers import AppServer, PostgresServer, eventually, request_as, run_app
from tests.support.clients import ADMIN
from tests.support.databases import start_copy
from tests.support.network_faults import (
    Fault,
    FaultTarget,
    auto_create_off,
    inactive_profile,
    missing_table,
    refuse_profiles,
)
from tests.support.pages import (
    PHONE,
    BrowserProfiles,
    is_too_wide,
    serious_issues,
    sign_in,
    sign_in_as,
)
from tests.support.servers import run_test_app

with_and_without_javascript = pytest.mark.parametrize(
    "javascript", [True, False], ids=["js", "no-js"]
)
PREPARING = "Preparando seu perfil · Neon Dashboard"
DEAD = "SELECT count(*) FROM provisioning_attempts WHERE state = 'dead'"
TECHNICAL = ("Traceback", "SQL", "psycopg", "Error", "Exception", "None", "null", "undefined")
SUPPORT = "https://ajuda.example/contato?ref="


@pytest.fixture
def target(site: AppServer, site_url: str) -> FaultTarget:
    """The site, its database, and an unused address."""
    return FaultTarget(site, site_url, unused_address())


def unused_address() -> str:
    """Return an address that no other test uses."""
    return f"{uuid.uuid4().hex}@example.com"


def check_page(page: Page, heading: str, message: str, *, javascript: bool) -> None:
    """Check heading, text, reference code and support link, width and accessibility."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    expect(page.get_by_text(message)).to_be_visible()
    code = page.locator("[data-reference]:visible").text_content() or ""
    text = page.locator("body").inner_text()
    assert len(code) == 32
    assert page.get_by_role("link", name="suporte").get_attribute("href") == SUPPORT + code
    assert [word for word in TECHNICAL if word in text] == []
    assert not is_too_wide(page)
    assert not javascript or serious_issues(page) == []  # axe-core needs scripts itself


@with_and_without_javascript
@pytest.mark.parametrize(
    ("trouble", "heading", "message"),
    [
        (auto_create_off, "Novos perfis em pausa", "é só voltar mais tarde"),
        (inactive_profile, "Perfil inativo", "Fale com a equipe para reativá-lo"),
        (missing_table, "Algo deu errado", "Tente novamente em alguns instantes"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_state_has_its_own_page(
    visitors: BrowserProfiles,
    target: FaultTarget,
    trouble: Fault,
    heading: str,
    message: str,
    *,
    javascript: bool,
) -> None:
    page = visitors.open_page(target.app.url, javascript=javascript, viewport=PHONE)

    with trouble(target):
        sign_in_as(page, "Rute Alves", target.email)
        check_page(page, heading, message, javascript=javascript)


@with_and_without_javascript
def test_blocked_user_sees_the_reason(
    visitors: BrowserProfiles, target: FaultTarget, *, javascript: bool
) -> None:
    page = visitors.open_page(target.app.url, javascript=javascript)
    sign_in_as(page, "Rute Alves", target.email)
    user = page.request.get("/api/auth/me").json()["user"]["id"]

    request_as(target.app, ADMIN, f"/api/admin/users/{user}/block").raise_for_status()
    page.reload()

    check_page(page, "Acesso suspenso", "Fale com a equipe da mentoria", javascript=javascript)


@with_and_without_javascript
def test_admin_without_profile_is_led_to_the_admin_console(
    visitors: BrowserProfiles, site: AppServer, *, javascript: bool
) -> None:
    page = visitors.open_page(site.url, javascript=javascript)

    sign_in(page, "Dona Admin")
    expect(page).to_have_url("/admin")
    page.goto("/perfil")

    check_page(page, "Área do mentorado", "sua conta não tem um perfil", javascript=javascript)
    page.get_by_role("link", name="Neon Dashboard").click()
    expect(page).to_have_url("/admin")


@with_and_without_javascript
def test_missing_page_links_to_the_dashboard(
    visitors: BrowserProfiles, site: AppServer, *, javascript: bool
) -> None:
    page = visitors.open_page(site.url, javascript=javascript)

    page.goto("/nada")

    check_page(page, "Página não encontrada", "volte ao seu painel", javascript=javascript)


@with_and_without_javascript
def test_future_month_is_refused_with_a_reason(
    visitors: BrowserProfiles, site: AppServer, *, javascript: bool
) -> None:
    page = visitors.open_page(site.url, javascript=javascript)
    sign_in(page, "Caio Reis")

    page.goto("/metricas/2999/1")

    check_page(page, "Este mês ainda não começou", "Confira o endereço", javascript=javascript)


@pytest.fixture(scope="module")
def invited_only(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultTarget]:
    """An app for invited users only."""
    folder: Path = tmp_path_factory.mktemp("invited_only")
    url = copy_database("invited_only")
    settings = {"DATABASE_URL": url, "ENROLMENT": "invited", "SUPPORT_URL": SUPPORT[:-5]}
    with run_test_app(folder, **settings) as app:
        yield FaultTarget(app, url, "convidada@example.com")


@with_and_without_javascript
def test_user_without_invitation_sees_what_to_check(
    visitors: BrowserProfiles, invited_only: FaultTarget, *, javascript: bool
) -> None:
    page = visitors.open_page(invited_only.app.url, javascript=javascript)

    sign_in_as(page, "Rute Alves", "sem-convite@example.com")

    check_page(
        page,
        "Ainda sem convite",
        "Confira se você entrou com o e-mail do convite",
        javascript=javascript,
    )


@pytest.fixture(scope="module")
def single_attempt_app(
    copy_database: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[AppServer, str]]:
    """An app whose sweep creates a dead letter after one attempt, and its database."""
    folder: Path = tmp_path_factory.mktemp("single_attempt")
    url = copy_database("single_attempt")
    retry_settings = {"SWEEP_INTERVAL_SECONDS": "1", "PROVISIONING_MAX_ATTEMPTS": "1"}
    with run_test_app(folder, DATABASE_URL=url, SUPPORT_URL=SUPPORT[:-5], **retry_settings) as app:
        yield app, url


@pytest.fixture
def single_attempt(single_attempt_app: tuple[AppServer, str]) -> FaultTarget:
    """That app, its database, and an unused address."""
    return FaultTarget(*single_attempt_app, unused_address())


@with_and_without_javascript
def test_user_with_a_dead_letter_is_referred_to_support(
    visitors: BrowserProfiles, single_attempt: FaultTarget, *, javascript: bool
) -> None:
    page = visitors.open_page(single_attempt.app.url, javascript=javascript)

    with refuse_profiles(single_attempt):
        sign_in_as(page, "Rute Alves", single_attempt.email)
        expect(page).to_have_title(PREPARING)
        page.goto("about:blank")  # requests of the page would postpone the sweep
        assert eventually(lambda: count(single_attempt.database_url, DEAD) == 1, seconds=30)
        page.goto("/dashboard")
        check_page(
            page, "Perfil não encontrado", "Nossa equipe já foi avisada.", javascript=javascript
        )

    page.get_by_role("button", name="Tentar novamente").click()
    expect(page.get_by_text("Boas-vindas, Rute!")).to_be_visible()
    assert eventually(lambda: count(single_attempt.database_url, DEAD) == 0, seconds=30)


@pytest.fixture
def postgres(migrated_data: Path, tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that the test stops."""
    with start_copy(migrated_data, tmp_path / "database") as server:
        yield server


@pytest.fixture
def app_on_postgres(postgres: PostgresServer, tmp_path: Path) -> Iterator[AppServer]:
    """An app on that server, with contexts that expire after one second."""
    settings = {"DATABASE_URL": postgres.url, "SESSION_TTL_SECONDS": "1"}
    with run_app(tmp_path, **settings, SUPPORT_URL=SUPPORT[:-5]) as app:
        yield app


@with_and_without_javascript
def test_without_database_new_users_wait_and_known_users_read(
    visitors: BrowserProfiles,
    app_on_postgres: AppServer,
    postgres: PostgresServer,
    *,
    javascript: bool,
) -> None:
    new_user, known_user = (
        visitors.open_page(app_on_postgres.url, javascript=javascript) for _ in range(2)
    )
    sign_in_as(known_user, "Ivo Braga")

    postgres.crash()
    sign_in_as(new_user, "Rute Alves")
    known_user.reload()

    check_page(new_user, "Voltamos já", "a página volta sozinha", javascript=javascript)
    expect(known_user.get_by_text("por enquanto não dá para alterar nada")).to_be_visible()
    assert not javascript or serious_issues(known_user) == []
    with postgres.restarted():
        expect(new_user.get_by_text("Boas-vindas, Rute!")).to_be_visible(timeout=30_000)


def test_form_sent_without_database_is_kept_and_saved_later(
    visitors: BrowserProfiles, app_on_postgres: AppServer, postgres: PostgresServer
) -> None:
    page = visitors.open_page(app_on_postgres.url, javascript=False)
    sign_in_as(page, "Ivo Braga")
    page.get_by_role("link", name="Métricas", exact=True).click()
    page.get_by_label("Faturamento (R$)").fill("12.345")

    postgres.crash()
    page.get_by_role("button", name="Salvar").click()
    expect(page.get_by_text("Nada do que você preencheu se perdeu")).to_be_visible()

    with postgres.restarted():
        assert eventually(lambda: page.request.get("/readyz").ok)
        page.get_by_role("button", name="Tentar novamente").click()
        expect(page.locator(".figure").first).to_contain_text("R$\u00a012.345")
