"""Pages are complete without JavaScript, in Portuguese, and usable at the first request."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from sqlalchemy.orm import Session

from dev import demo_data
from dev.fake_clerk import DevUser
from models import Feedback, Mentorado, MetricaMensal
from tests.support.html_page import open_page
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW


def page_of(client: FlaskClient, path: str = "/dashboard") -> str:
    return client.get(path).get_data(as_text=True)


def test_new_user_gets_a_usable_dashboard_at_the_first_request(
    client: FlaskClient, browser_of: Browser
) -> None:
    page = page_of(browser_of(BOB))

    assert "<h1>Bob Lima</h1>" in page
    assert "Boas-vindas, Bob!" in page


def test_created_profile_is_announced_once(browser_of: Browser) -> None:
    browser = browser_of(BOB)

    first, second = page_of(browser), page_of(browser)

    assert ("Perfil criado!" in first, "Perfil criado!" in second) == (True, False)


def test_mentee_without_a_name_is_asked_for_it(browser_of: Browser) -> None:
    page = open_page(browser_of(replace(BOB, name=None)))

    assert "Boas-vindas!" in page.headings
    assert page.link("Escreva seu nome") == "/perfil"


def test_profile_created_by_the_api_is_announced_on_the_first_page(browser_of: Browser) -> None:
    browser = browser_of(BOB)
    browser.post("/api/auth/ensure", headers={"Origin": "http://localhost"})

    assert "Perfil criado!" in page_of(browser)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("HEAD", {}),
        ("GET", {"Sec-Purpose": "prefetch"}),
        ("GET", {"Sec-Purpose": "prefetch;prerender"}),
        ("GET", {"Purpose": "prefetch"}),
        ("GET", {"Sec-Fetch-Dest": "iframe"}),
        ("GET", {"Sec-Fetch-Dest": "empty"}),
    ],
)
def test_message_is_kept_for_a_visible_page(
    browser_of: Browser, method: str, headers: dict[str, str]
) -> None:
    browser = browser_of(BOB)

    hidden_response = browser.open("/dashboard", method=method, headers=headers)
    visible_page = page_of(browser)

    assert ("Perfil criado!" in hidden_response.text, "Perfil criado!" in visible_page) == (
        False,
        True,
    )


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/dashboard/", "/dashboard"),
        ("/dashboard/?mes=2026-03", "/dashboard?mes=2026-03"),
        ("/admin/mentorados/", "/admin/mentorados"),
        ("/api/auth/me/", "/api/auth/me"),
    ],
)
def test_final_slash_is_redirected(client: FlaskClient, path: str, location: str) -> None:
    response = client.get(path)

    assert (response.status_code, response.location) == (308, location)


@pytest.mark.parametrize("path", ["/nada/", "/\\evil.example.com/"])
def test_final_slash_of_an_unknown_page_is_not_found(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_demo_months_use_the_time_of_sao_paulo(session: Session) -> None:
    moment = datetime(2026, 4, 1, 2, 30, tzinfo=UTC)  # still March in São Paulo

    demo_data.add_demo_data(session, moment)

    months = select(MetricaMensal.ano, MetricaMensal.mes)
    assert max(tuple(row) for row in session.execute(months)) == (2026, 3)


def test_returning_user_gets_no_message(alice: Mentorado, browser_of: Browser) -> None:
    assert "Perfil criado!" not in page_of(browser_of(ALICE))


@pytest.mark.parametrize("text", ["None", "NaN", "null", "undefined"])
def test_empty_dashboard_contains_no_technical_word(browser_of: Browser, text: str) -> None:
    assert text not in page_of(browser_of(BOB))


def test_dashboard_with_history_shows_its_numbers(session: Session, browser_of: Browser) -> None:
    demo_data.add_demo_data(session, NOW)
    session.commit()

    page = page_of(browser_of(DevUser(demo_data.ALICE, "Alice Prado", "alice@example.com")))

    assert "R$\u00a017.600" in page
    assert "março de 2026" in page


def test_profit_card_names_a_loss(session: Session, alice: Mentorado, browser_of: Browser) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=3, lucro=-2_500))
    session.commit()

    page = open_page(browser_of(ALICE))

    assert "Lucro do mês -R$\u00a02.500 prejuízo em março de 2026" in page.text
    assert "Faturamento Lucro Prejuízo" in page.text  # the legend of the chart


def test_chart_without_a_loss_does_not_mention_one(
    session: Session, alice: Mentorado, browser_of: Browser
) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=3, lucro=2_500))
    session.commit()

    assert "rejuízo" not in page_of(browser_of(ALICE))


def test_feedback_of_the_mentor_is_shown_and_escaped(
    session: Session, alice: Mentorado, browser_of: Browser
) -> None:
    texts = {"analise_mes": "<b>Bom</b>", "foco_proximo_mes": "Leads", "sugestao_mentor": "Agenda"}
    session.add(Feedback(mentorado_id=alice.id, ano=2026, mes=2, **texts))
    session.commit()

    assert "&lt;b&gt;Bom&lt;/b&gt;" in page_of(browser_of(ALICE))


def test_name_is_escaped(browser_of: Browser) -> None:
    page = page_of(browser_of(DevUser("user_x", "<script>alert(1)</script>")))

    assert "<script>" not in page


def test_home_redirects_to_the_dashboard(browser_of: Browser) -> None:
    response = browser_of(BOB).get("/")

    assert (response.status_code, response.location) == (302, "/dashboard")


def test_home_of_an_anonymous_browser_is_the_login(client: FlaskClient) -> None:
    response = client.get("/")

    assert (response.status_code, response.location) == (302, "/login?next=/")


def test_home_of_an_admin_without_profile_is_the_admin_console(console: FlaskClient) -> None:
    response = console.get("/")

    assert (response.status_code, response.location) == (302, "/admin")


def test_dashboard_of_an_admin_without_profile_redirects_to_the_admin_console(
    console: FlaskClient,
) -> None:
    response = console.get("/dashboard")

    assert (response.status_code, response.location) == (303, "/admin")


def test_unknown_page_is_a_404_with_a_reference_code(client: FlaskClient) -> None:
    response = client.get("/nada")

    assert response.status_code == 404
    assert response.headers["X-Request-ID"] in response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("next_page", "target"),
    [
        ("/dashboard?mes=3", "/dashboard?mes%3D3"),
        ("https://evil.example", "/dashboard"),
        ("//evil.example", "/dashboard"),
        ("/\\evil.example", "/dashboard"),
        ("javascript:alert(1)", "/dashboard"),
        ("/\n/evil.example", "/dashboard"),
        ("dashboard", "/dashboard"),
    ],
)
def test_sign_in_returns_to_local_paths_only(
    client: FlaskClient, next_page: str, target: str
) -> None:
    response = client.get("/login", query_string={"next": next_page})

    assert response.location == f"/local-clerk/sign-in?redirect_url={target}"


def test_logout_ends_the_session_of_the_browser(alice: Mentorado, browser_of: Browser) -> None:
    browser = browser_of(ALICE)

    browser.post("/logout", headers={"Origin": "http://localhost"})

    assert browser.get_cookie("__session") is None
    assert browser.get("/dashboard").status_code == 302


def test_personal_responses_are_not_cached(alice: Mentorado, browser_of: Browser) -> None:
    browser = browser_of(ALICE)

    cache_controls = {
        browser.get(p).headers["Cache-Control"] for p in ("/dashboard", "/api/auth/me")
    }

    assert cache_controls == {"no-store"}


def test_logout_by_another_site_is_refused(alice: Mentorado, browser_of: Browser) -> None:
    response = browser_of(ALICE).post("/logout", headers={"Origin": "https://evil.example"})

    assert response.status_code == 403


def test_demo_user_signs_in_with_a_button(client: FlaskClient) -> None:
    response = client.post("/local-clerk/sign-in", data={"pessoa": "sem_email"})

    assert (response.status_code, response.location) == (303, "/dashboard")
    assert "Caio Reis" in page_of(client)


def test_other_user_signs_in_with_the_form(client: FlaskClient) -> None:
    form = {"nome": "Zoé Lins", "email": "zoe@example.com", "redirect_url": "/dashboard?mes=3"}

    response = client.post("/local-clerk/sign-in", data=form)

    assert response.location == "/dashboard?mes=3"
    assert "Zoé Lins" in page_of(client)


def test_unverified_demo_user_is_not_linked_to_the_pre_registration(
    client: FlaskClient, session: Session
) -> None:
    demo_data.add_demo_data(session, NOW - timedelta(days=1))
    session.commit()

    client.post("/local-clerk/sign-in", data={"pessoa": "impostora"})

    assert "Fabio Nery" not in page_of(client)


def test_development_provider_publishes_no_private_key(
    client: FlaskClient,
) -> None:
    keys = client.get("/local-clerk/.well-known/jwks.json").json

    assert keys is not None
    assert set(keys["keys"][0]) == {"kty", "key_ops", "n", "e", "kid", "use", "alg"}


def test_user_document_of_the_development_provider_has_the_form_of_clerk(
    app: Flask, client: FlaskClient
) -> None:
    secret = app.extensions["services"].dev_provider.secret_key
    client.post("/local-clerk/sign-in", data={"pessoa": "convidada"})

    user = client.get(
        "/local-clerk/v1/users/user_local_eva", headers={"Authorization": f"Bearer {secret}"}
    ).json

    assert user is not None
    assert user["email_addresses"][0]["verification"]["status"] == "verified"


@pytest.mark.parametrize(
    ("path", "key", "status"), [("user_local_eva", "wrong", 401), ("user_nobody", None, 404)]
)
def test_development_provider_refuses_wrong_keys_and_unknown_users(
    app: Flask, client: FlaskClient, path: str, key: str | None, status: int
) -> None:
    secret = key or app.extensions["services"].dev_provider.secret_key

    response = client.get(
        f"/local-clerk/v1/users/{path}", headers={"Authorization": f"Bearer {secret}"}
    )

    assert response.status_code == status
