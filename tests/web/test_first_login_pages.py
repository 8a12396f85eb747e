"""Pages while a profile cannot be created: preparing, retries, and an end of the retries."""

import html
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from benchmarks.databases import REFUSE_PROFILES
from dev.fake_clerk import DevIdentityProvider
from models import Mentorado, User
from tests.support.html_page import SAME_ORIGIN
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW

REFRESH = re.compile(r'http-equiv="refresh" content="(\d+); url=([^"]+)"')


@pytest.fixture
def browser(session: Session, browser_of: Browser) -> FlaskClient:
    """Bob's browser; no profile can be written."""
    session.execute(text(REFUSE_PROFILES))
    session.commit()
    return browser_of(BOB)


def page_of(client: FlaskClient, path: str = "/dashboard") -> str:
    return client.get(path).get_data(as_text=True)


def test_missing_profile_shows_the_preparing_page(browser: FlaskClient) -> None:
    response = browser.get("/dashboard")

    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert "Preparando seu perfil…" in response.get_data(as_text=True)


def test_browser_without_javascript_retries_three_times(
    browser: FlaskClient,
) -> None:
    path, pauses = "/dashboard", []
    while refresh := REFRESH.search(page_of(browser, path)):
        pauses.append(int(refresh[1]))
        path = html.unescape(refresh[2])

    assert path == "/dashboard?tentativa=3"
    assert all(
        minimum <= pause <= minimum + 1 for pause, minimum in zip(pauses, (2, 2, 4), strict=True)
    )
    assert "Perfil não encontrado" in page_of(browser, path)


def test_page_announces_each_retry(browser: FlaskClient) -> None:
    toasts = [page_of(browser, f"/dashboard?tentativa={n}") for n in (0, 1)]

    assert ["Erro, tentando novamente…" in page for page in toasts] == [False, True]


def test_page_reloads_its_own_url(browser: FlaskClient) -> None:
    refresh = REFRESH.search(page_of(browser, "/metricas/2026/1"))

    assert refresh is not None
    assert refresh[2] == "/metricas/2026/1?tentativa=1"


def test_reload_times_have_jitter(browser: FlaskClient) -> None:
    pages = [page_of(browser) for _ in range(30)]

    assert {refresh[1] for page in pages if (refresh := REFRESH.search(page))} == {"2", "3"}


@pytest.mark.parametrize("attempt", ["4", "-1", "x"])
def test_invalid_attempt_number_causes_no_endless_reload(
    browser: FlaskClient, attempt: str
) -> None:
    refresh = REFRESH.search(page_of(browser, f"/dashboard?tentativa={attempt}"))

    assert refresh is None or refresh[2].endswith("tentativa=1")


def test_profile_created_by_a_retry_is_announced(browser: FlaskClient, session: Session) -> None:
    browser.get("/dashboard")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    page = page_of(browser, "/dashboard?tentativa=1")

    assert "Perfil criado!" in page
    assert "Boas-vindas, Bob!" in page


def test_message_is_not_shown_to_the_next_user(
    alice: Mentorado, browser_of: Browser, provider: DevIdentityProvider
) -> None:
    browser = browser_of(BOB)
    browser.post("/api/auth/ensure", headers=SAME_ORIGIN)
    browser.set_cookie("__session", provider.token(ALICE))

    assert "Perfil criado!" not in page_of(browser)


def test_message_is_not_shown_to_anonymous_browsers(
    client: FlaskClient,
) -> None:
    with client.session_transaction() as flask_session:
        flask_session["_flashes"] = [(BOB.clerk_id, "Perfil criado!")]

    response = client.get("/local-clerk/sign-in")

    assert (response.status_code, "Perfil criado!" in response.text) == (200, False)


def test_form_can_be_resubmitted_after_a_503(
    browser: FlaskClient,
) -> None:
    form = {"lucro": "5", "observacoes": 'a\r\n"b"<c>'}

    response = browser.post("/metricas/2026/1", data=form, headers=SAME_ORIGIN)
    page = response.get_data(as_text=True)

    assert response.status_code == 503
    assert '<form method="post" action="/metricas/2026/1">' in page
    assert 'name="lucro" value="5"' in page
    assert "a\r\n&#34;b&#34;&lt;c&gt;" in page


def test_resubmitted_form_has_all_values(browser: FlaskClient) -> None:
    page = browser.post("/metricas/2026/1", data={"lucro": ["5", "6"]}, headers=SAME_ORIGIN).text

    assert 'name="lucro" value="5"' in page
    assert 'name="lucro" value="6"' in page


def test_form_of_an_expired_session_can_be_resubmitted(
    client: FlaskClient, provider: DevIdentityProvider
) -> None:
    client.set_cookie("__session", provider.token(BOB, lifetime_seconds=-60))

    response = client.post("/metricas/2026/1", data={"lucro": "5"}, headers=SAME_ORIGIN)
    page = response.get_data(as_text=True)

    assert (response.status_code, response.headers["Cache-Control"]) == (401, "no-store")
    assert 'name="lucro" value="5"' in page
    assert '<iframe class="visually-hidden" src="/session"' in page


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_form_of_another_site_cannot_be_resubmitted(
    client: FlaskClient, origin: dict[str, str]
) -> None:
    response = client.post("/metricas/2026/1", data={"lucro": "5"}, headers=origin)

    assert response.status_code == 401
    assert 'name="lucro"' not in response.get_data(as_text=True)


def test_form_of_a_blocked_user_cannot_be_resubmitted(
    browser_of: Browser, session: Session
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, blocked_at=NOW))
    session.commit()

    response = browser_of(BOB).post("/metricas/2026/1", data={"lucro": "5"}, headers=SAME_ORIGIN)

    assert response.status_code == 403
    assert 'name="lucro"' not in response.get_data(as_text=True)


def test_refused_form_cannot_be_resubmitted(client: FlaskClient, browser_of: Browser) -> None:
    response = browser_of(BOB).post(
        "/metricas/2026/1", data={"lucro": "5"}, headers={"Origin": "https://evil.example"}
    )

    assert response.status_code == 403
    assert 'name="lucro"' not in response.get_data(as_text=True)


def test_session_frame_never_shows_the_sign_in_page(client: FlaskClient) -> None:
    client.set_cookie("__clerk_db_jwt", "dvb_known")

    response = client.get("/session", headers={"Sec-Fetch-Dest": "iframe"})

    assert (response.status_code, response.headers["X-Frame-Options"]) == (401, "SAMEORIGIN")


def test_session_page_confirms_a_valid_session(app: Flask, browser_of: Browser) -> None:
    assert "Sua sessão está em dia." in page_of(browser_of(BOB), "/session")
