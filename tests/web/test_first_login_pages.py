"""When a profile cannot be made at once: pages that prepare it, and an end to the waiting."""

import html
import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from dev.databases import REFUSE_PROFILES
from dev.fake_clerk import DevIdentityProvider
from models import Mentorado, User
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW

OURS = {"Origin": "http://localhost"}
NEXT = re.compile(r'http-equiv="refresh" content="(\d+); url=([^"]+)"')


@pytest.fixture
def browser(session: Session, browser_of: Browser) -> FlaskClient:
    """Bob's; no profile can be written."""
    session.execute(text(REFUSE_PROFILES))
    session.commit()
    return browser_of(BOB)


def page_of(client: FlaskClient, path: str = "/dashboard") -> str:
    return client.get(path).get_data(as_text=True)


def test_profile_that_is_not_there_yet_is_being_prepared(browser: FlaskClient) -> None:
    answer = browser.get("/dashboard")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "Preparando seu perfil…" in answer.get_data(as_text=True)


def test_browser_without_javascript_is_led_through_three_attempts_to_an_end(
    browser: FlaskClient,
) -> None:
    path, pauses = "/dashboard", []
    while found := NEXT.search(page_of(browser, path)):
        pauses.append(int(found[1]))
        path = html.unescape(found[2])

    assert path == "/dashboard?tentativa=3"
    assert all(least <= pause <= least + 1 for pause, least in zip(pauses, (2, 2, 4), strict=True))
    assert "Perfil não encontrado" in page_of(browser, path)


def test_each_attempt_after_the_first_is_announced_as_another_one(browser: FlaskClient) -> None:
    toasts = [page_of(browser, f"/dashboard?tentativa={n}") for n in (0, 1)]

    assert ["Erro, tentando novamente…" in page for page in toasts] == [False, True]


def test_each_page_comes_back_to_itself(browser: FlaskClient) -> None:
    found = NEXT.search(page_of(browser, "/metricas/2026/1"))

    assert found is not None
    assert found[2] == "/metricas/2026/1?tentativa=1"


def test_browsers_that_wait_do_not_all_come_back_at_once(browser: FlaskClient) -> None:
    pages = [page_of(browser) for _ in range(30)]

    assert {found[1] for page in pages if (found := NEXT.search(page))} == {"2", "3"}


@pytest.mark.parametrize("attempt", ["4", "-1", "x"])
def test_attempts_that_were_never_offered_go_round_no_longer(
    browser: FlaskClient, attempt: str
) -> None:
    found = NEXT.search(page_of(browser, f"/dashboard?tentativa={attempt}"))

    assert found is None or found[2].endswith("tentativa=1")


def test_profile_that_is_there_at_the_next_attempt_is_announced(
    browser: FlaskClient, session: Session
) -> None:
    browser.get("/dashboard")
    session.execute(text("DROP TRIGGER poison ON mentorados"))
    session.commit()

    page = page_of(browser, "/dashboard?tentativa=1")

    assert "Perfil criado!" in page
    assert "Boas-vindas, Bob!" in page


def test_message_for_one_person_is_not_shown_to_the_next(
    alice: Mentorado, browser_of: Browser, provider: DevIdentityProvider
) -> None:
    browser = browser_of(BOB)
    browser.post("/api/auth/ensure", headers=OURS)
    browser.set_cookie("__session", provider.token(ALICE))

    assert "Perfil criado!" not in page_of(browser)


def test_message_for_somebody_is_not_shown_to_whoever_is_not_signed_in(
    client: FlaskClient,
) -> None:
    with client.session_transaction() as kept:
        kept["_flashes"] = [(BOB.clerk_id, "Perfil criado!")]

    answer = client.get("/local-clerk/sign-in")

    assert (answer.status_code, "Perfil criado!" in answer.text) == (200, False)


def test_form_that_cannot_be_saved_just_now_is_kept_to_be_sent_again(
    browser: FlaskClient,
) -> None:
    sent = {"lucro": "5", "observacoes": 'a\r\n"b"<c>'}

    answer = browser.post("/metricas/2026/1", data=sent, headers=OURS)
    page = answer.get_data(as_text=True)

    assert answer.status_code == 503
    assert '<form method="post" action="/metricas/2026/1">' in page
    assert 'name="lucro" value="5"' in page
    assert "a\r\n&#34;b&#34;&lt;c&gt;" in page


def test_every_value_of_a_kept_form_is_sent_again(browser: FlaskClient) -> None:
    page = browser.post("/metricas/2026/1", data={"lucro": ["5", "6"]}, headers=OURS).text

    assert 'name="lucro" value="5"' in page
    assert 'name="lucro" value="6"' in page


def test_form_of_an_expired_session_is_kept_while_the_session_is_renewed(
    client: FlaskClient, provider: DevIdentityProvider
) -> None:
    client.set_cookie("__session", provider.token(BOB, lifetime_seconds=-60))

    answer = client.post("/metricas/2026/1", data={"lucro": "5"}, headers=OURS)
    page = answer.get_data(as_text=True)

    assert (answer.status_code, answer.headers["Cache-Control"]) == (401, "no-store")
    assert 'name="lucro" value="5"' in page
    assert '<iframe class="visually-hidden" src="/session"' in page


@pytest.mark.parametrize("origin", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_form_that_another_site_has_sent_is_never_one_click_away_from_being_ours(
    client: FlaskClient, origin: dict[str, str]
) -> None:
    answer = client.post("/metricas/2026/1", data={"lucro": "5"}, headers=origin)

    assert answer.status_code == 401
    assert 'name="lucro"' not in answer.get_data(as_text=True)


def test_form_of_a_blocked_person_is_not_offered_again(
    browser_of: Browser, session: Session
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, blocked_at=NOW))
    session.commit()

    answer = browser_of(BOB).post("/metricas/2026/1", data={"lucro": "5"}, headers=OURS)

    assert answer.status_code == 403
    assert 'name="lucro"' not in answer.get_data(as_text=True)


def test_refused_form_is_not_offered_again(client: FlaskClient, browser_of: Browser) -> None:
    answer = browser_of(BOB).post(
        "/metricas/2026/1", data={"lucro": "5"}, headers={"Origin": "https://evil.example"}
    )

    assert answer.status_code == 403
    assert 'name="lucro"' not in answer.get_data(as_text=True)


def test_frame_that_renews_a_session_never_shows_a_sign_in_page(client: FlaskClient) -> None:
    client.set_cookie("__clerk_db_jwt", "dvb_known")

    answer = client.get("/session", headers={"Sec-Fetch-Dest": "iframe"})

    assert (answer.status_code, answer.headers["X-Frame-Options"]) == (401, "SAMEORIGIN")


def test_renewed_session_says_so(app: Flask, browser_of: Browser) -> None:
    assert "Sua sessão está em dia." in page_of(browser_of(BOB), "/session")
