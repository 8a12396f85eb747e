"""The pages: complete as the server sends them, in Portuguese, and usable at the first request."""

from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from dev import demo_data
from dev.fake_clerk import DevUser
from models import Feedback, Mentorado, MetricaMensal
from tests.support.types import Browser
from tests.support.users import ALICE, BOB, NOW


def page_of(client: FlaskClient, path: str = "/dashboard") -> str:
    return client.get(path).get_data(as_text=True)


def test_new_person_sees_a_usable_dashboard_at_the_first_request(
    client: FlaskClient, browser_of: Browser
) -> None:
    page = page_of(browser_of(BOB))

    assert "<h1>Bob Lima</h1>" in page
    assert "Boas-vindas, Bob!" in page


def test_new_person_is_told_once_that_the_profile_is_there(browser_of: Browser) -> None:
    browser = browser_of(BOB)

    first, second = page_of(browser), page_of(browser)

    assert ("Perfil criado!" in first, "Perfil criado!" in second) == (True, False)


def test_profile_made_by_the_api_is_announced_on_the_first_page(browser_of: Browser) -> None:
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
def test_message_waits_for_a_page_that_is_shown(
    browser_of: Browser, method: str, headers: dict[str, str]
) -> None:
    browser = browser_of(BOB)

    unseen = browser.open("/dashboard", method=method, headers=headers)
    seen = page_of(browser)

    assert ("Perfil criado!" in unseen.text, "Perfil criado!" in seen) == (False, True)


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
    answer = client.get(path)

    assert (answer.status_code, answer.location) == (308, location)


@pytest.mark.parametrize("path", ["/nada/", "/\\evil.example.com/"])
def test_final_slash_of_an_unknown_page_is_not_found(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


def test_demo_month_is_the_one_of_sao_paulo() -> None:
    late = datetime(2026, 4, 1, 2, 30, tzinfo=UTC)  # still March in São Paulo

    assert demo_data._months_before(late, 1) == [(2026, 3)]


def test_returning_person_is_told_nothing(alice: Mentorado, browser_of: Browser) -> None:
    assert "Perfil criado!" not in page_of(browser_of(ALICE))


@pytest.mark.parametrize("word", ["None", "NaN", "null", "undefined"])
def test_empty_dashboard_shows_no_technical_word(browser_of: Browser, word: str) -> None:
    assert word not in page_of(browser_of(BOB))


def test_dashboard_with_history_shows_its_numbers(session: Session, browser_of: Browser) -> None:
    demo_data.fill(session, NOW)
    session.commit()

    page = page_of(browser_of(DevUser(demo_data.ALICE, "Alice Prado", "alice@example.com")))

    assert "R$\u00a017.600" in page
    assert "março de 2026" in page


def test_card_of_the_profit_says_when_it_is_a_loss(
    session: Session, alice: Mentorado, browser_of: Browser
) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=3, lucro=-2_500))
    session.commit()

    page = page_of(browser_of(ALICE))

    assert "<p>-R$\u00a02.500</p>\n    <small>prejuízo em março de 2026</small>" in page
    assert "Prejuízo</p>" in page


def test_chart_of_months_without_a_loss_speaks_of_none(
    session: Session, alice: Mentorado, browser_of: Browser
) -> None:
    session.add(MetricaMensal(mentorado_id=alice.id, ano=2026, mes=3, lucro=2_500))
    session.commit()

    assert "rejuízo" not in page_of(browser_of(ALICE))


def test_feedback_of_the_mentor_is_shown_and_escaped(
    session: Session, alice: Mentorado, browser_of: Browser
) -> None:
    words = {"analise_mes": "<b>Bom</b>", "foco_proximo_mes": "Leads", "sugestao_mentor": "Agenda"}
    session.add(Feedback(mentorado_id=alice.id, ano=2026, mes=2, **words))
    session.commit()

    assert "&lt;b&gt;Bom&lt;/b&gt;" in page_of(browser_of(ALICE))


def test_name_is_escaped(browser_of: Browser) -> None:
    page = page_of(browser_of(DevUser("user_x", "<script>alert(1)</script>")))

    assert "<script>" not in page


def test_home_leads_to_the_dashboard(client: FlaskClient) -> None:
    answer = client.get("/")

    assert (answer.status_code, answer.location) == (302, "/dashboard")


def test_unknown_page_is_a_friendly_404_with_a_reference(client: FlaskClient) -> None:
    answer = client.get("/nada")

    assert answer.status_code == 404
    assert answer.headers["X-Request-ID"] in answer.get_data(as_text=True)


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
    answer = client.get("/login", query_string={"next": next_page})

    assert answer.location == f"/local-clerk/sign-in?redirect_url={target}"


def test_sign_out_ends_the_session_of_this_browser(alice: Mentorado, browser_of: Browser) -> None:
    browser = browser_of(ALICE)

    browser.post("/logout", headers={"Origin": "http://localhost"})

    assert browser.get_cookie("__session") is None
    assert browser.get("/dashboard").status_code == 302


def test_personal_answers_are_kept_nowhere(alice: Mentorado, browser_of: Browser) -> None:
    browser = browser_of(ALICE)

    kept = {browser.get(p).headers["Cache-Control"] for p in ("/dashboard", "/api/auth/me")}

    assert kept == {"no-store"}


def test_sign_out_cannot_be_forged_by_another_site(alice: Mentorado, browser_of: Browser) -> None:
    answer = browser_of(ALICE).post("/logout", headers={"Origin": "https://evil.example"})

    assert answer.status_code == 403


def test_cast_signs_in_with_a_button(client: FlaskClient) -> None:
    answer = client.post("/local-clerk/sign-in", data={"pessoa": "sem_email"})

    assert (answer.status_code, answer.location) == (303, "/dashboard")
    assert "Caio Reis" in page_of(client)


def test_anybody_else_signs_in_with_the_form(client: FlaskClient) -> None:
    form = {"nome": "Zoé Lins", "email": "zoe@example.com", "redirect_url": "/dashboard?mes=3"}

    answer = client.post("/local-clerk/sign-in", data=form)

    assert answer.location == "/dashboard?mes=3"
    assert "Zoé Lins" in page_of(client)


def test_unverified_member_of_the_cast_does_not_get_the_pre_registration(
    client: FlaskClient, session: Session
) -> None:
    demo_data.fill(session, NOW - timedelta(days=1))
    session.commit()

    client.post("/local-clerk/sign-in", data={"pessoa": "impostora"})

    assert "Fabio Nery" not in page_of(client)


def test_keys_of_the_stand_in_are_published_without_their_private_half(
    client: FlaskClient,
) -> None:
    keys = client.get("/local-clerk/.well-known/jwks.json").json

    assert keys is not None
    assert set(keys["keys"][0]) == {"kty", "key_ops", "n", "e", "kid", "use", "alg"}


def test_user_of_the_stand_in_is_described_as_clerk_does(app: Flask, client: FlaskClient) -> None:
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
def test_stand_in_tells_nothing_about_nobody_or_to_nobody(
    app: Flask, client: FlaskClient, path: str, key: str | None, status: int
) -> None:
    secret = key or app.extensions["services"].dev_provider.secret_key

    answer = client.get(
        f"/local-clerk/v1/users/{path}", headers={"Authorization": f"Bearer {secret}"}
    )

    assert answer.status_code == status
