"""The gate: who is let in, who is sent away, and that a refusal leaves no trace."""

from collections.abc import Callable
from dataclasses import replace

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dev.fake_clerk import DevIdentityProvider, DevUser
from models import AuditEvent, Mentorado, User
from models.columns import SimNao
from models.mentorado import Turma
from models.user import Role
from provisioning.rules import Rules
from tests.support.types import Browser, Sign
from tests.support.users import ALICE, BOB, CHARLIE, NOW
from web.services import EXTENSION, Services

PROFILE_ROUTES = [
    *("/dashboard", "/metricas/2026/1", "/api/mentorados/me", "/api/mentorados/me/overview"),
    "/api/mentorados/me/metricas",
]


def code_of(answer: object) -> str:
    return str(answer.json["code"])  # type: ignore[attr-defined] # a TestResponse


def rows(session: Session) -> tuple[int, ...]:
    tables = (User, Mentorado, AuditEvent)
    return tuple(session.scalars(select(func.count()).select_from(t)).one() for t in tables)


BAD_TOKENS: dict[str, Callable[[DevIdentityProvider], str]] = {
    "none at all": lambda provider: "",
    "garbage": lambda provider: "abc.def.ghi",
    "expired": lambda provider: provider.token(BOB, lifetime_seconds=-60),
    "blank subject": lambda provider: provider.token(DevUser("")),
    "sentinel subject": lambda provider: provider.token(DevUser("undefined")),
    "subject with NUL": lambda provider: provider.token(DevUser("user_\x00bob")),
    "subject of 10 kB": lambda provider: provider.token(DevUser("u" * 10_000)),
    "unsigned": lambda provider: jwt.encode({"sub": "user_bob"}, "", algorithm="none"),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
@pytest.mark.parametrize("path", ["/api/auth/me", "/api/mentorados/me"])
def test_bad_token_is_a_401_and_nothing_is_written(
    client: FlaskClient, session: Session, provider: DevIdentityProvider, name: str, path: str
) -> None:
    token = BAD_TOKENS[name](provider)

    answer = client.get(path, headers={"Authorization": f"Bearer {token}"})

    assert (answer.status_code, code_of(answer)) == (401, "unauthenticated")
    assert rows(session) == (0, 0, 0)


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_page_sends_a_bad_session_to_sign_in(
    client: FlaskClient, provider: DevIdentityProvider, name: str
) -> None:
    cookie = f"__session={BAD_TOKENS[name](provider)}"

    answer = client.get("/dashboard?mes=3", headers={"Cookie": cookie})

    assert (answer.status_code, answer.location) == (302, "/login?next=/dashboard?mes%3D3")


def test_anonymous_visitor_is_sent_to_sign_in(client: FlaskClient) -> None:
    answer = client.get("/dashboard")

    assert (answer.status_code, answer.location) == (302, "/login?next=/dashboard")


@pytest.mark.parametrize("path", PROFILE_ROUTES)
def test_profile_is_there_before_the_view_runs(
    client: FlaskClient, session: Session, sign: Sign, path: str
) -> None:
    answer = client.get(path, headers=sign(BOB))

    assert answer.status_code == 200
    assert session.scalars(select(func.count()).select_from(Mentorado)).one() == 1


def test_cookie_of_an_instance_with_suffix_is_read(
    app: Flask, client: FlaskClient, provider: DevIdentityProvider
) -> None:
    client.set_cookie("__session_1a2B3c4d", provider.token(BOB))

    assert client.get("/dashboard").status_code == 200


def test_over_long_values_are_cut_or_dropped(client: FlaskClient, sign: Sign) -> None:
    photo = "https://x/" * 200
    person = DevUser("user_long", "\x00" + "N" * 2_000, "a" * 400 + "@x.com", image_url=photo)

    answer = client.get("/api/mentorados/me", headers=sign(person))

    assert answer.json is not None
    assert (answer.json["nome_completo"], answer.json["email"], answer.json["foto_url"]) == (
        "N" * 255,
        None,
        None,
    )


@pytest.mark.parametrize("path", PROFILE_ROUTES)
@pytest.mark.parametrize(
    ("facts", "status", "code"),
    [
        ({"blocked_at": NOW}, 403, "user_blocked"),
        ({"role": Role.ADMIN}, 403, "mentorado_required"),
    ],
)
def test_each_cause_has_one_answer_on_every_profile_route(
    client: FlaskClient,
    session: Session,
    sign: Sign,
    path: str,
    facts: dict[str, object],
    status: int,
    code: str,
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, **facts))
    session.commit()

    answer = client.get(path, headers=sign(BOB))

    assert answer.status_code == status
    assert code in (code_of(answer) if answer.is_json else answer.get_data(as_text=True))


def test_inactive_mentorado_is_told_so(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    alice.ativo = SimNao.NAO
    session.commit()

    answer = client.get("/api/mentorados/me", headers=sign(ALICE))

    assert (answer.status_code, code_of(answer)) == (403, "mentorado_inactive")


def test_block_holds_at_the_next_request_of_an_uncached_person(
    client: FlaskClient, session: Session, alice: Mentorado, sign: Sign
) -> None:
    session.execute(update(User).values(blocked_at=NOW))
    session.commit()

    me = client.get("/api/auth/me", headers=sign(ALICE)).json

    assert me is not None
    assert (me["status"], me["mentorado"]) == ("user_blocked", None)


def test_session_of_a_deleted_account_counts_no_longer(
    client: FlaskClient, session: Session, sign: Sign, browser_of: Browser
) -> None:
    session.add(User(clerk_id=BOB.clerk_id, deleted_at=NOW))
    session.commit()

    me = client.get("/api/auth/me", headers=sign(BOB))
    page = browser_of(BOB).get("/dashboard")

    assert (me.status_code, code_of(me)) == (401, "unauthenticated")
    assert page.status_code == 401


@pytest.mark.parametrize("person", [ALICE, BOB])
def test_mentees_are_kept_out_of_the_administration(
    client: FlaskClient, alice: Mentorado, sign: Sign, person: DevUser
) -> None:
    answer = client.get("/api/admin/sweeps", headers=sign(person))

    assert (answer.status_code, code_of(answer)) == (403, "forbidden")


def test_view_that_states_nothing_is_closed(app: Flask, client: FlaskClient, sign: Sign) -> None:
    rule = app.url_map.iter_rules("pages.home")
    endpoint = next(rule).endpoint
    view, app.view_functions[endpoint] = app.view_functions[endpoint], lambda: "open"

    answer = client.get("/", headers=sign(BOB))

    app.view_functions[endpoint] = view
    assert answer.status_code == 403


ORIGINS: dict[str, tuple[dict[str, str], int]] = {
    "own origin": ({"Origin": "http://localhost"}, 200),
    "same-origin fetch": ({"Sec-Fetch-Site": "same-origin"}, 200),
    "nothing": ({}, 403),
    "null origin": ({"Origin": "null"}, 403),
    "another site": ({"Origin": "https://evil.example"}, 403),
    "same-site fetch": ({"Sec-Fetch-Site": "same-site"}, 403),
    "foreign origin that claims to be same": (
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        403,
    ),
}


@pytest.mark.parametrize("name", ORIGINS)
def test_cookie_writes_need_our_own_origin(
    alice: Mentorado, browser_of: Browser, name: str
) -> None:
    headers, status = ORIGINS[name]

    answer = browser_of(ALICE).post("/api/auth/ensure", headers=headers)

    assert answer.status_code == status


def test_bearer_writes_need_no_origin(client: FlaskClient, sign: Sign) -> None:
    assert client.post("/api/auth/ensure", headers=sign(BOB)).status_code == 201


def test_well_formed_request_id_is_kept(client: FlaskClient) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": "abc-12345678"})

    assert answer.headers["X-Request-ID"] == "abc-12345678"


@pytest.mark.parametrize("given", ["", "with space 123", "a" * 129, "x;drop-table", "<b>"])
def test_ill_formed_request_id_is_replaced(client: FlaskClient, given: str) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": given})

    assert answer.headers["X-Request-ID"] != given
    assert len(answer.headers["X-Request-ID"]) == 32


def test_person_seen_with_another_name_is_updated(
    client: FlaskClient, alice: Mentorado, sign: Sign
) -> None:
    renamed = replace(ALICE, name="Alice P. Souza")

    me = client.get("/api/auth/me", headers=sign(renamed)).json

    assert me is not None
    assert (me["user"]["name"], me["mentorado"]["nome_completo"]) == (
        "Alice P. Souza",
        "Alice Prado",
    )


def test_only_the_invited_enter_where_only_they_may(
    app: Flask,
    client: FlaskClient,
    session: Session,
    services: Services,
    sign: Sign,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = replace(services.provisioning, rules=Rules(invited_only=True))
    monkeypatch.setitem(app.extensions, EXTENSION, replace(services, provisioning=strict))
    session.add(Mentorado(nome_completo="Bob", email=BOB.email, turma=Turma.NEON))
    session.commit()

    stranger = client.get("/api/mentorados/me", headers=sign(CHARLIE))
    expected = client.get("/api/mentorados/me", headers=sign(BOB))

    assert (stranger.status_code, code_of(stranger)) == (403, "not_invited")
    assert (expected.status_code, (expected.json or {})["nome_completo"]) == (200, "Bob")


@pytest.mark.parametrize("header", ["HTTP_COOKIE", "HTTP_X_ANYTHING"])
@pytest.mark.parametrize("path", ["/dashboard", "/api/auth/me", "/healthz", "/nowhere"])
def test_headers_that_are_too_large_in_sum_are_refused(app: Flask, path: str, header: str) -> None:
    """A server joins up to a hundred headers of one name; decoding the sum cost half a second."""
    client = app.test_client(use_cookies=False)

    answer = client.get(path, environ_overrides={header: "a=b; " * 20_000})

    assert answer.status_code == 413
